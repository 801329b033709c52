"""The words that sono itself writes; they are not private, even if a file or header has them.

`PROSE` occurs in captions, or where nobody is named, so the gate never searches for it.
`VOCABULARY` adds the words of tables, codes, settings and reports: they are not private in a file
name or a header, but a person may be called Blank or Bright.
"""

from sono.curation.clinical.findings import FINDINGS
from sono.curation.clinical.name_variants import COMMON, words_of
from sono.curation.clinical.values import LATERALITY, PRESENTATION
from sono.curation.core.planes import OTHER_LABELS, PLANES, REGIONS, PlaneTable
from sono.curation.core.reasons import REASONS, SPACING_REASONS
from sono.curation.core.tables import BIOMETRY, CAPTIONS, DUPLICATES, IMAGES, MASKS

OWN_WORDS = words_of(
    """
    accepted annotation annotations brain caption captions center centers dataset fetal frame frames
    id ids image images label labels mask masks metrics model normal overlay patient patients pixel
    pixels plane planes records region report series study train training ultrasound unknown
    validation weeks
    """
)

# Where a cell is one of our own codes: a file may be called blank.png or no_regions.dcm.
TABLES = (IMAGES, MASKS, DUPLICATES, CAPTIONS, BIOMETRY)
CODES = tuple(
    dict.fromkeys(
        (*REASONS, *SPACING_REASONS, *(word for spec in TABLES
                                       for words in spec.choices.values() for word in words))
    )
)  # fmt: skip
CODE_COLUMNS = (
    "status",
    "reasons",
    "spacing_reason",
    "sector_kind",
    "ga_source",
    "crosses",
    "kind",
    *(name for spec in TABLES for name in spec.choices),
)
COLUMNS = tuple(name for spec in TABLES for name in spec.columns)

# Keys of run.json, metrics.json, log files, sono.toml and checkpoints; words of result tables.
KEY_WORDS = words_of(
    """
    above accumulate accuracy adapt added allow alone alpha among annotated answer answered answers
    architecture asked attention attributes augment aurc auroc banned baseline baselines batch
    before best between bins block blocks bootstrap border bottom brier burned bytes cache
    calibration calipers candidate candidates categories category ceiling chance change changed
    check chunk class classes cluster clusters code column commit compared conditions config
    confusion constant contents context control cosine count counts coverage covering crop
    curriculum data date dates decay decimal delimiter dense depth description difference
    differences dilation distinct draws dtype early edges embed embeddings empty encoder encoding
    engine environment epoch epochs error errors evaluation every evidence examples excluded expand
    factor facts features fields file files final finding findings finite first fitted floor fold
    folder folds follow follows format found fraction from generator global graph groups heads
    height held hold image_size import imported inputs internal interval jitter jittered keep kept
    keys kind language large last layer layers learning length level limit list logit loss losses
    macro majority manual margin match max mean meaning measures median megabytes metadata metric
    micro middle min minus missing mode modes moved name names naming nearest neither none notes
    number numbers objective offset optimizer order origin output paired pairs parameter parameters
    params patch path percent phrasing phrasings place places point points pooler position posterior
    precision prefix present presentation pretrained probabilities probability process processes
    project projection prompt prompts proposals proposed public python quality quantiles query
    question radius range rate ratio ratios read reader reading reason recall recipe reconstruction
    refusal refused regional regions relative reliability repeat residue right risk rotation rules
    runs scale scaler score scored scores sd seconds seed seen segmentation selection semantic
    settings shadow shape shapes shard shards share shares sheet shift short shortened shown
    shuffled single size sizes small software sono sonoclip source sources space spacing split
    splits square stability start starts state states step steps storage strata strategy string
    structure structures subject table tables targets temperature template templates test text texts
    threads title together token tokenizer tokens top torch tower towers trainable tried truth
    unmatched unpaired unseen upright val value values verdict version vision visual vocab
    vocabulary warmup weight weights whole width without words workspace worst wrong years
    """
)

# Defined terms of DICOM, keys of PNG texts and of EXIF, what cameras and programs call a file, and
# the texts of our DICOM files.
FORMAT_WORDS = words_of(
    """
    additional age author bmp clean closest comment comments copyright created creation cropped date
    datetime days dcm derived desc description device dicom digital disclaimer document enhanced
    export exported extension external file gestational gif gray grayscale identity image imaging
    implementation instance jpeg jpg lossless lossy make modality model modified monochrome multi
    multiframe original photometric picture pixmap png primary printed profile rgb scan scanner
    screenshot secondary sector sequence snapshot software source specimen still storage tag tags
    thumbnail tiff time title transfer type uncompressed unmodified user version video warning
    """
)

# Kinds of houses and departments, and makers of scanners with their models.
PLACE_WORDS = words_of(
    """
    ambulanz clinic clinica clinical clinique department division faculty fetomaternal frauenklinik
    general gynaecology gynakologie gynecology health hospital imaging institute klinik klinikum
    maternal maternity medical medicine obgyn obstetric obstetrical obstetrics perinatal praxis
    prenatal radiology research room school science sciences unit universitat university ward women
    womens
    """
)
MAKERS = words_of(
    """
    acuson affiniti aloka alpinion aplio arietta canon electric epiq esaote fujifilm general
    healthcare hitachi logiq medical medison mindray mylab philips resona samsung siemens sonoace
    sonoscape supersonic toshiba ultrasound voluson
    """
)
# Of machines alone, where a person of this name stops nothing; such a word is a secret like any
# other elsewhere.
MACHINE_WORDS = MAKERS | words_of(
    """
    accuvix ag agfa aixplorer alpha anesus antares avius beta butterfly clarius class clearvue co
    company consona corporation delta edition eight elite expert freestyle ge gmbh gold hd hera
    hewlett hi imagine imagyn inc juniper kretz kretztechnik ltd lumify nine noblus nuewa omega
    packard preirus premium prestige pro prosound redwood sequoia series sigma signature sonoline
    sonosite sparq swift system systems technologies technology terason twice ugeo ultra venue
    versana viamo vision vivid xario zonare
    """
)

# Words in the place of a name where nobody is named, or an office.
ROLE_WORDS = words_of(
    """
    admin administrator anonymised anonymized anonymous baby default doctor examiner fetus nobody
    operator other others physician service sonographer test user
    """
)

PROSE = (OWN_WORDS | PLACE_WORDS | ROLE_WORDS) | words_of(
    *(text for plane in PLANES for text in (plane.id, plane.name)),
    *PlaneTable().structures,
    *REGIONS,
    *FINDINGS,
    *LATERALITY,
    *PRESENTATION,
)
VOCABULARY = (
    PROSE
    | COMMON
    | MAKERS
    | words_of(
        *CODES, *COLUMNS, *OTHER_LABELS, *(label for plane in PLANES for label in plane.aliases)
    )
    | KEY_WORDS
    | FORMAT_WORDS
)

# Words that scanners and their users write on frames; they are no names.
SCANNER_WORDS = frozenset(
    [
        "abdomen",
        "baby",
        "bladder",
        "brain",
        "breech",
        "cereb",
        "cerebellum",
        "cervix",
        "cord",
        "face",
        "feet",
        "femur",
        "fetal",
        "fetus",
        "foot",
        "hand",
        "hands",
        "head",
        "heart",
        "humerus",
        "kidney",
        "kidneys",
        "left",
        "legs",
        "lips",
        "long",
        "lower",
        "placenta",
        "profile",
        "right",
        "sagittal",
        "spine",
        "stomach",
        "trans",
        "transverse",
        "trim",
        "twin",
        "upper",
        "view",
        "harm",
        "high",
        "penetration",
        "gain",
        "power",
        "general",
        "routine",
        "obstetric",
        "cri",
        "frq",
        "har",
        "mid",
        "qual",
        "sri",
        "tib",
        "tis",
    ]
)

# The same in Spanish, Portuguese, French and German. None is among the 5,000 most frequent
# forenames or surnames of any country (names-dataset 3.3), nor so similar to one of them that the
# name is taken for a misread word: hence no corazon, links or izquierda (Izquierdo).
FOREIGN_WORDS = words_of(
    """
    cerebral cervelet dcha droite embryon esq estomac femoral feto foetus gehirn harnblase izq
    kleinhirn langsschnitt nabelschnur nackentransparenz nieren nucal nucale oberarm oberschenkel
    querschnitt rechts rinon translucencia transversal umero utero vejiga wirbelsaule zervix
    """
)

# What a reader may find on a frame that names nobody: also planes, structures, makers, biometry.
PRINTED_WORDS = (
    OWN_WORDS
    | SCANNER_WORDS
    | FOREIGN_WORDS
    | MAKERS
    | words_of(
        """
        ac afi ap apad bpd cm crl depth dist dr dvp efw fl fps freq frame ga gn hc hz idx khz kpa lr
        mhz mi mm npd nt ofd pct pwr ra ri rt sd tad tcd tib tis us vol zoom
        """,
        *(text for plane in PLANES for text in (plane.id, plane.name)),
        *PlaneTable().structures,
        *REGIONS,
        *LATERALITY,
        *PRESENTATION,
    )
)
