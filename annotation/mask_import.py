"""Bring masks made elsewhere to the stored frames.

Match names, check sizes and pixels, crop, keep or refuse each.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from isal import isal_zlib
from numpy.typing import NDArray

from sono.annotation.foreign_masks import Found, Picture, RefusedError
from sono.annotation.mask_files import TABLES, MaskRules, read_masks
from sono.annotation.mask_fit import FitRules, fit_mask
from sono.annotation.mask_labels import Labels, structure_name
from sono.annotation.mask_matching import FrameFinder, Match, NoMatch, Row
from sono.annotation.mask_pictures import PictureRules
from sono.annotation.masks import check_masks, mask_table, outdated, replace_masks
from sono.curation.core.column_values import MASK_STATES
from sono.curation.core.errors import IssuesError, SonoError, did_you_mean
from sono.curation.core.frame_files import image_id_of, picture_of
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy

MAX_EXAMPLES = 5
MAX_NAMES = 5

# Colors of Alzubaidi et al. 2023 (head planes): the outline's inside, the cavum and the ventricle.
HEAD_COLORS = {"red": "fetal head", "olive": "cavum septi pellucidi", "green": "lateral ventricle"}

REFUSALS = {
    "unmatched": "no frame has this name",
    "ambiguous": (
        "the name fits several files, so it serves none; give the folders that tell them apart"
    ),
    "other_folder": (
        "the file lies in another folder; if that folder says nothing, give --ignore-folder"
    ),
    "two_pictures": "several pictures of the masks' file mean one frame; keep the right one",
    "other_name": "the LabelMe file is named after another frame than the one in it",
    "changed": "the stored frame has changed",
    "not_accepted": "the frame was not accepted by `sono qc`",
    "many_frames": "the file has several frames; export with `sono masks export` and draw on those",
    "wrong_size": "the mask has another size than the frame",
    "empty": "the mask has no pixel inside the sector",
    "inverted": "nearly everything, all four borders or a large hole: inverted? look at it, and "
    "give --force if it is "
    "right",
    "pieces": (
        "many pieces: an image, or rows read as columns? look at it, and give --force if it "
        "is right"
    ),
    "open_line": (
        "a thin line that does not close; close it, or give --force if the line is the structure"
    ),
    "cut_away": (
        "most of it is outside the sector: another frame's? look at it, and give --force "
        "if it is right"
    ),
    "unknown_label": "the label is no structure",
    "frame": "a frame of the study is no mask",
    "tones": "an image is no mask",
    "classes": "several classes in one picture",
    "no_structure": "nothing says which structure it shows",
    "broken": "the entry cannot be used",
}


@dataclass(frozen=True)
class ImportOptions:
    """What the command line gives.

    `structure` names all masks of pictures, or of a file with one label; `colors` and `values` name
    the classes of pictures, `labels` those of JSON files and tables; `skipped` labels are left out.
    `columns` names the columns of a box table, `ignored_folders` those that say nothing about whose
    frame lies in them. `strict`: all masks or none; `force`: masks that look odd, too; `dry_run`:
    only report. `replace`: what becomes of accepted masks that are here already, see `outdated`.
    """

    structure: str | None = None
    colors: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    skipped: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    ignored_folders: Sequence[str] = ()
    state: str = "accepted"
    strict: bool = False
    force: bool = False
    dry_run: bool = False
    replace: bool | None = None


class Outcome(NamedTuple):
    """What became of one mask or entry; it may hold names, so it is for the terminal only."""

    place: str
    name: str = ""
    label: str = ""
    structure: str | None = None
    image_id: str | None = None
    evidence: str | None = None
    reason: str | None = None  # a key of REFUSALS, or "skipped"
    detail: str = ""

    @property
    def text(self) -> str:
        """One line that says what happened."""
        if self.reason is None:
            return f"{self.place}: {self.structure} on frame {self.image_id} by {self.evidence}"
        meaning = REFUSALS.get(self.reason, "the label is left out")
        return f"{self.place}: {meaning}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True)
class ImportSummary:
    """Masks kept (of which some were there before), by structure, state, source and evidence; the
    others by reason.

    `examples` has one mask for each kind of evidence and reason; `masks` has every one after a dry
    run.
    """

    imported: int
    known: int
    structures: dict[str, int]
    states: dict[str, int]
    sources: dict[str, int]
    evidence: dict[str, int]
    refused: dict[str, int]
    skipped: dict[str, int]
    examples: tuple[str, ...]
    remarks: tuple[str, ...]
    unknown_labels: tuple[str, ...] = ()  # each once, with its count and what to do
    masks: tuple[dict[str, object], ...] = ()

    def refuse_nothing(self) -> None:
        """SonoError where no mask was imported, with the names that were looked for."""
        if not self.imported:
            reasons = ", ".join(
                f"{name} {count}" for name, count in {**self.refused, **self.skipped}.items()
            )
            shown = "; ".join((*self.examples, *self.unknown_labels)) or "it holds no mask"
            raise SonoError(f"nothing was imported ({reasons or 'no mask'}): {shown}")

    def refuse_findings(self) -> None:
        """FindingsError where a mask was refused."""
        if self.refused:
            reasons = ", ".join(f"{name} {count}" for name, count in self.refused.items())
            raise IssuesError(
                f"--strict would import nothing, since masks are refused ({reasons}); see above"
            )


def import_masks(
    workspace: Workspace, path: Path, options: ImportOptions | None = None
) -> ImportSummary:
    """Import COCO or LabelMe JSON, a table of boxes, a mask PNG, or a folder of PNGs and JSON
    files.

    Masks come in source pixels and are cropped like their frame; those named by image id are in
    stored pixels, as `export_coco` writes them. A mask that fits no frame for sure is counted and
    left out, and so is a bad entry. SonoError for options that contradict each other and files that
    cannot be read; FindingsError under `options.strict`, with nothing imported, where a mask was
    refused.
    """
    options = options or ImportOptions()
    _check_options(options)
    _check_kind(path, options)
    images, planes = workspace.images(), workspace.planes()
    labels = Labels.create(planes, options.structure, options.labels, options.skipped)
    found = read_masks(path, MaskRules(_picture_rules(options, planes, images), options.columns))
    _check_one_label(path, labels, found)
    finder = FrameFinder.create(workspace, images, options.ignored_folders)
    rules = FitRules.create(labels, options.state, options.force, workspace.masks())
    rows, outcomes = _fit_all(found, finder, rules)
    refused = [outcome for outcome in outcomes if outcome.reason not in (None, "skipped")]
    if not rows and not finder.files and refused:
        raise SonoError(
            f"{workspace.vault}: not here, so masks match by image id alone, and none of these "
            f"{len(refused)} "
            "is named by one; put the vault back next to the study"
        )
    if options.strict and refused and not options.dry_run:
        raise IssuesError(
            f"--strict: nothing was imported, since {len(refused)} masks were refused: "
            f"{refused[0].text}"
        )
    new = mask_table(rows)
    with nullcontext() if options.dry_run else workspace.lock():
        check_masks(new, images)
        before = workspace.masks()
        after = replace_masks(before, new, options.replace)
        if len(new) and not options.dry_run:
            workspace.write(MASKS, after)
            check_privacy(workspace)
    remarks = [*found.remarks, *(f"no mask has the label '{label}'" for label in labels.unused())]
    remarks += _second_masks(before, new, options.replace)
    remarks += _foreign_structures(new, finder.accepted, planes)
    if decided := int((~new["mask_id"].isin(after["mask_id"])).sum()):
        remarks.append(
            f"{decided} proposals are left out, since somebody has decided on these structures "
            f"before"
        )
    return _summary(new, before, outcomes, remarks, options.dry_run)


def _second_masks(before: pd.DataFrame, new: pd.DataFrame, replace: bool | None) -> list[str]:
    """What becomes of accepted masks of structures and frames that `new` ones show, too.

    A line for either fate.
    """
    gone = outdated(before, new, replace)
    fates = {
        "are replaced by new ones of their structure; to have both, as of two readers, import the "
        "file that they came "
        "from again with --keep-both": before[gone],
        "are kept next to new ones of their structure: training and evaluation use both; with "
        "--replace the new ones "
        "stand alone": before[outdated(before, new, replace=True) & ~gone],
    }
    return [
        f"{len(masks)} accepted masks that were here before "
        f"({_listed(Counter(masks['structure']))}, on "
        f"{masks['image_id'].nunique()} frames) {fate}"
        for fate, masks in fates.items()
        if len(masks)
    ]


def _foreign_structures(
    new: pd.DataFrame, accepted: Mapping[str, Row], planes: PlaneTable
) -> list[str]:
    """A remark on masks of structures that their frame's plane does not have.

    They may be another frame's.
    """
    pairs = zip(
        new["structure"], (accepted[image_id]["plane"] for image_id in new["image_id"]), strict=True
    )
    foreign = Counter(
        f"{structure} on {name}"
        for structure, name in pairs
        if name in planes.by_id and structure not in planes.by_id[name].structures
    )
    if not foreign:
        return []
    return [
        f"{foreign.total()} masks show a structure that the plane of their frame does not have "
        f"({_listed(foreign)}): "
        "masks of other frames? If not, add the structure to the plane in the planes file, else no "
        "caption names it"
    ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.most_common(MAX_NAMES))


def parse_pairs(option: str, given: Sequence[str], example: str) -> dict[str, str]:
    """Values by name from options such as `--color "red=fetal head"`.

    SonoError for half a pair, or a name twice.
    """
    pairs: dict[str, str] = {}
    for text in given:
        name, sign, value = (part.strip() for part in text.rpartition("="))
        if not (name and sign and value):
            raise SonoError(f"{option} '{text}': write NAME=VALUE, as in {option} \"{example}\"")
        if pairs.setdefault(name, value) != value:
            raise SonoError(f"{option} '{name}' is both '{pairs[name]}' and '{value}'; keep one")
    return pairs


def parse_values(given: Sequence[str]) -> dict[int, str]:
    """Structures by gray value or palette index from options such as `--value "1=fetal head"`."""
    pairs = parse_pairs("--value", given, "1=fetal head")
    odd = [name for name in pairs if not (name.isascii() and name.isdigit() and len(name) < 6)]
    if odd:
        raise SonoError(
            f"--value '{odd[0]}' is no whole number; write VALUE=STRUCTURE, as in --value "
            f'"1=fetal head"'
        )
    return {int(name): value for name, value in pairs.items()}


def _check_options(options: ImportOptions) -> None:
    given = {"--structure": options.structure, "--color": options.colors, "--value": options.values}
    both = [name for name, value in given.items() if value]
    if len(both) > 1:
        raise SonoError(
            f"{' and '.join(both)} contradict each other: each says what all masks show; keep one"
        )
    if options.state not in MASK_STATES:
        raise SonoError(
            f"unknown mask state '{options.state}'{did_you_mean(options.state, MASK_STATES)}"
        )


def _check_kind(path: Path, options: ImportOptions) -> None:
    """SonoError for an option that a file of this kind has no use for."""
    kind = path.suffix.lower()
    if (options.colors or options.values) and not path.is_dir() and kind != ".png":
        raise SonoError(
            f"{path}: --color and --value are for pictures; name the labels of this file with "
            f"--label"
        )
    if options.columns and kind not in TABLES:
        raise SonoError(f"{path}: --column is for tables of boxes ({', '.join(TABLES)})")


def _check_one_label(path: Path, labels: Labels, found: Found) -> None:
    """SonoError where --structure would give one name to several labels."""
    names = sorted(
        {
            mask.label
            for mask in found.masks
            if mask.picture.file is None and not labels.skips(mask.label)
        }
    )
    if labels.structure is not None and len(names) > 1:
        raise SonoError(
            f"{path}: has the labels {', '.join(names[:MAX_NAMES])}, which --structure would all "
            f"call "
            f"'{labels.structure}'; name them with --label \"{names[0]}={labels.structure}\""
        )


def _picture_rules(
    options: ImportOptions, planes: PlaneTable, images: pd.DataFrame
) -> PictureRules:
    known = images[images["status"].isin(["accepted", "quarantined"])]
    ids = frozenset(known["image_id"].dropna())
    stored = frozenset(picture_of(file).partition("-")[2] for file in known["file"].dropna())

    def is_frame(gray: NDArray[np.uint8]) -> bool:
        return (
            image_id_of(gray) in ids
            or f"{isal_zlib.crc32(np.ascontiguousarray(gray)):08x}" in stored
        )

    structure = (
        structure_name(options.structure, planes, "--structure") if options.structure else None
    )
    return PictureRules(
        structure,
        {
            color: structure_name(name, planes)
            for color, name in (options.colors or HEAD_COLORS).items()
        },
        {value: structure_name(name, planes) for value, name in options.values.items()},
        is_frame,
        options.force,
    )


def _fit_all(
    found: Found, finder: FrameFinder, rules: FitRules
) -> tuple[list[dict[str, object]], list[Outcome]]:
    """A row for each mask that is kept, and what became of every mask and entry."""
    matches = match_all(found, finder)
    rows: list[dict[str, object]] = []
    outcomes = [
        Outcome(place, reason=reason, detail=detail) for reason, place, detail in found.refused
    ]
    for mask in found.masks:
        outcome = Outcome(mask.place, mask.picture.name, mask.label)
        match = matches[mask.picture.entry]
        if isinstance(match, Match):
            outcome = outcome._replace(image_id=match.row["image_id"], evidence=match.evidence)
        try:
            if rules.labels.skips(mask.label):
                raise RefusedError("skipped")
            if isinstance(match, NoMatch):
                raise RefusedError(*match)
            rows.append(fit_mask(mask, match, rules))
            outcomes.append(outcome._replace(structure=str(rows[-1]["structure"])))
        except RefusedError as refused:
            outcomes.append(outcome._replace(reason=refused.reason, detail=str(refused)))
    return rows, outcomes


def match_all(found: Found, finder: FrameFinder) -> dict[str, Match | NoMatch]:
    """The frame of each picture by its entry; pictures that mean one frame together mean none."""
    pictures: dict[str, Picture] = {picture.entry: picture for picture in found.pictures}
    matches = {entry: finder.find(picture) for entry, picture in pictures.items()}
    owners: dict[str, list[str]] = {}
    for entry, match in matches.items():
        if isinstance(match, Match):
            owners.setdefault(str(match.row["image_id"]), []).append(entry)
    for entries in owners.values():
        if len(entries) > 1:
            names = " and ".join(f"'{pictures[entry].name}'" for entry in entries[:MAX_NAMES])
            matches |= {entry: NoMatch("two_pictures", names) for entry in entries}
    return matches


def _summary(
    new: pd.DataFrame,
    before: pd.DataFrame,
    outcomes: Sequence[Outcome],
    remarks: Sequence[str],
    dry_run: bool,
) -> ImportSummary:
    kept = [outcome for outcome in outcomes if outcome.reason is None]
    refused = [outcome for outcome in outcomes if outcome.reason not in (None, "skipped")]
    return ImportSummary(
        imported=len(new),
        known=int(new["mask_id"].isin(before["mask_id"]).sum()),
        structures=_counts(new["structure"]),
        states=_counts(new["state"]),
        sources=_counts(new["source"]),
        evidence=_counts(outcome.evidence for outcome in kept),
        refused=_counts(outcome.reason for outcome in refused),
        skipped=_counts(outcome.label for outcome in outcomes if outcome.reason == "skipped"),
        examples=_examples(refused, kept if dry_run else []),
        remarks=tuple(remarks),
        unknown_labels=_unknown_labels(refused),
        masks=tuple(outcome._asdict() for outcome in outcomes) if dry_run else (),
    )


def _examples(refused: Sequence[Outcome], kept: Sequence[Outcome]) -> tuple[str, ...]:
    """One line for each kind of evidence and each reason, then more refusals up to MAX_EXAMPLES."""
    firsts = {outcome.evidence: outcome for outcome in reversed(kept)}
    reasons = {outcome.reason: outcome for outcome in reversed(refused)}
    more = [outcome for outcome in refused if outcome not in reasons.values()]
    shown = [*firsts.values(), *reasons.values(), *more[: max(0, MAX_EXAMPLES - len(reasons))]]
    return tuple(outcome.text for outcome in shown)


def _unknown_labels(refused: Sequence[Outcome]) -> tuple[str, ...]:
    """A line for each label that is no structure, the most frequent first."""
    unknown = [outcome for outcome in refused if outcome.reason == "unknown_label"]
    counts, details = (
        Counter(one.label for one in unknown),
        {one.label: one.detail for one in unknown},
    )
    return tuple(
        f"'{label}' of {count} masks: {details[label]}" for label, count in counts.most_common()
    )


def _counts(values: Any) -> dict[str, int]:
    return {str(name): count for name, count in sorted(Counter(map(str, values)).items())}
