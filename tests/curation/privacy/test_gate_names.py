"""Who is private and what is public.

Persons stay private in every cell, public names are free in their own cells.
"""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gate_studies import caption, make_study, person
from pydicom import dcmread

from sono.curation.clinical.vocabulary import PROSE, VOCABULARY
from sono.curation.core.atomic import write_bytes, write_text
from sono.curation.core.engine import Engine
from sono.curation.core.errors import PrivacyError
from sono.curation.core.reasons import REASONS, SPACING_REASONS
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.files import DicomForm, dicom_file
from sono.curation.phantom.frames import PROBES, expose
from sono.curation.phantom.patients import make_patient
from sono.curation.privacy.gate import check_folder, check_privacy, private_strings
from sono.curation.privacy.private_strings import collect
from sono.curation.qc import QcOptions, run_qc


@pytest.mark.parametrize(
    "name",
    [
        "Lindqvist",
        "LINDQVIST^ANNA",
        "Dr. Anna Lindqvist",
        "LindqvistAnna",
        "annalindqvist North",
        "Dr Lindqvist",
        "Frau Lindqvist",
        "FrauLindqvist",
        "A. Lindqvist",
    ],
)
@pytest.mark.parametrize("column", ["machine", "center"])
def test_a_persons_name_is_private_in_the_cell_that_holds_it(
    tmp_path: Path, column: str, name: str
) -> None:
    study = make_study(tmp_path / "study", **person("LINDQVIST^ANNA"), **{column: name})
    with pytest.raises(PrivacyError, match=rf"images\.parquet, column '{column}'"):
        check_privacy(study)


@pytest.mark.parametrize(
    "name", ["Voluson Lindqvist", "GE Anna Lindqvist E8", "Li", "Voluson Na", "Praxis Doe"]
)
def test_a_persons_name_is_no_part_of_a_machine(tmp_path: Path, name: str) -> None:
    study = make_study(
        tmp_path / "study", **person("LINDQVIST^ANNA", "LI^NA", "DOE^JANE"), machine=name
    )
    with pytest.raises(PrivacyError, match="column 'machine'"):
        check_privacy(study)


@pytest.mark.parametrize(
    "name",
    [
        "4711223",
        "Voluson E8 MRN4711223",
        "AB12CD",
        "North ACC-0099887",
        "Box P4711224X",
        "North 21.03.1984",
    ],
)
@pytest.mark.parametrize("column", ["machine", "center"])
def test_an_id_or_a_day_is_private_in_the_cell_that_holds_it(
    tmp_path: Path, column: str, name: str
) -> None:
    private = ["AB12CD", "19840321", "ACC-0099887", "P4711224X", name]
    study = make_study(tmp_path / "study", private=private, raw_patient="4711223", **{column: name})
    other = {
        "path": b"/raw/2.png",
        "root": b"/raw",
        "settings_hash": "x",
        "source_id": "t",
        "frame": 0,
    }
    other |= {"status": "rejected", "private": [], "persons": [], "raw_patient": "AB12CD"}
    whole = pd.concat([study.sources(), from_rows(SOURCES, [other])], ignore_index=True)
    study.write_vault(study.sources_path, SOURCES, whole)
    with pytest.raises(PrivacyError, match=rf"images\.parquet, column '{column}'"):
        check_privacy(study)


@pytest.mark.parametrize("name", ["Voluson E6", "Voluson S10", "SSD-5000", "A"])
def test_a_machine_is_free_although_headers_say_it(tmp_path: Path, name: str) -> None:
    private = [name, "4711223", "12", "5000"]
    study = make_study(
        tmp_path / "study", private=private, raw_patient="17", machine=name, center=name
    )
    assert check_privacy(study)


@pytest.mark.parametrize("text", ["view of 4711223", "view 21.03.1984", "Anna Lindqvist view"])
def test_an_id_a_day_or_a_name_is_private_in_a_planes_file(tmp_path: Path, text: str) -> None:
    private = ["4711223", "19840321", "LINDQVIST^ANNA"]
    study = make_study(
        tmp_path / "study", private=private, persons=private[2:], raw_patient="4711223"
    )
    write_text(
        study.root / "planes.toml",
        f'[cheek]\nname = "{text}"\nregion = "face"\nstructures = ["cheek"]\n',
    )
    study.config_path.write_text(study.config_path.read_text() + 'planes_file = "planes.toml"\n')
    with pytest.raises(PrivacyError, match=r"planes\.toml"):
        check_privacy(study)


def test_an_id_is_no_name_of_a_study(tmp_path: Path) -> None:
    study = make_study(tmp_path / "4711223", private=["4711223"], raw_patient="4711223")
    with pytest.raises(PrivacyError, match=r"sono\.toml"):
        check_privacy(study)


@pytest.mark.parametrize(
    "name", ["Other", "Op. 1", "ANONYMOUS", "Operator^Test", "Hospital Clinic", "Test^Patient"]
)
def test_what_is_written_for_nobody_is_no_persons_name(tmp_path: Path, name: str) -> None:
    study = make_study(
        tmp_path / "study", **person(name), machine="Other", center="Hospital Clinic"
    )
    write_text(
        study.root / "report.html", "<p>Operator, patient, test; Hospital Clinic: other 12</p>"
    )
    assert check_privacy(study)


def test_a_short_name_in_a_machine_stops_an_export_too(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", **person("LI^NA"), machine="Voluson Na")
    (tmp_path / "out").mkdir()
    with pytest.raises(PrivacyError, match="column 'machine'"):
        check_folder(study, tmp_path / "out")


def test_makers_and_models_are_no_names(tmp_path: Path) -> None:
    names = person("GE^SWIFT", "Aloka^Pro", "Other^Medical")
    study = make_study(
        tmp_path / "study",
        **names,
        machine="GE Medical Systems Voluson Swift",
        center="Praxis Lind",
    )
    assert check_privacy(study)


def test_a_patient_called_like_a_maker_does_not_stop_its_machines(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", **person("PHILIPS^ANNA"), machine="Philips Affiniti 70")
    assert check_privacy(study)
    caption(study, "The femur of Philips.")
    with pytest.raises(PrivacyError, match="column 'text'"):
        check_privacy(study)


@pytest.mark.parametrize("kind", ["center", "machine", "study", "folder", "planes"])
@pytest.mark.parametrize(
    "note", ["patient is Lindqvist", "Lindqvist, 22 weeks", "seen by lindqvist"]
)
def test_a_word_of_a_public_name_is_private_elsewhere(tmp_path: Path, kind: str, note: str) -> None:
    public = "Praxis Lindqvist"
    cells = (
        {"center": public} if kind == "center" else {"machine": public} if kind == "machine" else {}
    )
    study = make_study(
        tmp_path / (public if kind == "folder" else "study"), private=[public], **cells
    )
    if kind == "study":
        study.config_path.write_text(
            study.config_path.read_text().replace('"study"', f'"{public}"')
        )
    if kind == "planes":
        (study.root / "planes.toml").write_text(
            f'[cheek]\nname = "{public}"\nregion = "face"\nstructures = ["cheek"]\n'
        )
        study.config_path.write_text(
            study.config_path.read_text() + 'planes_file = "planes.toml"\n'
        )
    assert check_privacy(study)
    for place, page in (
        ("report.html", f"<p>{note}</p>"),
        ("notes.txt", note),
        ("run.json", f'{{"note": "{note}"}}'),
    ):
        write_text(study.root / place, page)
        with pytest.raises(PrivacyError, match=re.escape(place)):
            check_privacy(study)
        (study.root / place).unlink()
    caption(study, note)
    with pytest.raises(PrivacyError, match=r"captions\.parquet, column 'text'"):
        check_privacy(study)


def test_a_center_named_after_a_patient_is_free_in_its_column_and_there_alone(
    tmp_path: Path,
) -> None:
    names = ["LINDQVIST^ANNA", "Praxis Lindqvist"]
    study = make_study(
        tmp_path / "study", private=names, persons=names[:1], center="Praxis Lindqvist"
    )
    write_text(study.root / "report.html", "<td>Praxis Lindqvist</td>")
    assert check_privacy(study)
    write_text(study.root / "report.html", "<td>Praxis</td><td>Dr. Lindqvist</td>")
    with pytest.raises(PrivacyError, match=r"report\.html"):
        check_privacy(study)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("Praxis Lindqvist", "plane"),
        ("Praxis Lindqvist", "template"),
        ("Praxis Lindqvist", "reviewer"),
    ],
)
def test_a_center_is_private_in_the_columns_of_others(
    tmp_path: Path, text: str, column: str
) -> None:
    study = make_study(tmp_path / "study", private=[text], center=text)
    row: dict[str, object] = {
        "mask_id": "m",
        "image_id": "i",
        "structure": "femur",
        "height": 9,
        "width": 9,
        "area": 3,
    }
    row |= {
        "counts": "abc",
        "box_x": 1,
        "box_y": 1,
        "box_width": 1,
        "box_height": 1,
        "source": "manual",
    }
    if column == "reviewer":
        study.write(MASKS, from_rows(MASKS, [row | {"state": "accepted", "reviewer": text}]))
    elif column == "template":
        caption(study, "A femur.")
        values = {
            "image_id": "i",
            "level": "global",
            "text": "A femur.",
            "tier": "label",
            "tokens": 9,
        }
        study.write(CAPTIONS, from_rows(CAPTIONS, [values | {"template": text}]))
    else:
        study.write(IMAGES, study.read(IMAGES).assign(plane=text))
    with pytest.raises(PrivacyError, match=f"column '{column}'"):
        check_privacy(study)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "Li^Na",
            [
                "Li Na",
                "NA LI",
                "na_li",
                "Li, Na",
                "Dr. Na Li",
                "Na M. Li",
                "N. Li",
                "Li, N.",
                "li-na",
            ],
        ),
        ("Bo Ek", ["Bo Ek", "ek bo", "Ek, Dr. Bo", "Ek, Mrs. Bo", "B. Ek"]),
        ("Wu^An^J^Dr", ["Wu An", "An Wu", "Prof. An J. Wu", "WU^AN"]),
        ("Frau Dr. Vo Le", ["Vo Le", "le vo", "Le, V."]),
        ("Do^An", ["Do An", "An Do"]),
        ("Ли^Ян", ["Ли Ян", "ян ли", "Ян М. Ли"]),
        ("李^娜", ["李娜", "病人李娜的", "李 娜", "娜 李"]),
        ("Ono^Yu=小野^由=おの^ゆう", ["Yu Ono", "小野由", "由 小野", "ゆう おの"]),
        ("김^아", ["김아", "아 김"]),
        ("علي^نور", ["علي نور", "نور علي"]),
        ("राम^देव", ["राम देव", "देव, राम"]),
        ("Jane^Brain", ["Jane Brain", "brain, jane"]),
    ],
)
def test_short_names_count_next_to_each_other(name: str, texts: list[str]) -> None:
    private = collect([name], VOCABULARY, [name], PROSE)
    for text in texts:
        assert private.found_in(f"seen: {text}; twice"), text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Li^Na", "li and na"),
        ("Li^Na", "Lina"),
        ("Bo Ek", "ekbo ek"),
        ("Maria^de la Cruz", "de la vida"),
        ("Jane^Brain", "a fetal brain"),
        ("Femur^Long", "the femur is in view"),
        ("Anna^Rose", "i rose"),
        ("Ng^Jo", "the jo ngo"),
    ],
)
def test_halves_of_short_names_and_particles_are_chance(name: str, text: str) -> None:
    assert collect([name], VOCABULARY, [name], PROSE).found_in(text) == set()


LONG = "Ana^Paz de Gil Ros"
LONGER = "Gil Ros y Paz^Eva del Mar Sol"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Maria del Carmen Lopez Garcia Fernandez", "Garcia del Carmen"),
        (LONG, "Gil, Ana"),
        (LONG, "ros gil"),
        (LONG, "Paz Ros"),
        (LONG, "Paz de Gil"),
        (LONGER, "Mar Gil"),
        (LONGER, "sol_ros"),
        (LONGER, "Eva del Mar"),
        (LONGER, "Mar de la Paz"),
        (LONGER, "E. Gil"),
        ("Al Ali^Noor bin Omar Said Taha", "Taha bin Omar"),
        ("Al Ali^Noor bin Omar Said Taha", "Ali Said"),
        ("Ek^Bo von der Ahe Au Ost Um", "Um, Bo von"),
        ("Le^Van Anh Vu Ho", "Anh Le"),
        ("van der Aa^Jo", "Frau van der Aa"),
        (" ".join(f"w{chr(97 + n)}x" for n in range(20)), "wax wbx"),
    ],
)
def test_any_two_parts_of_a_long_name_count(name: str, text: str) -> None:
    name = name.replace("w", "q")
    assert collect([name], VOCABULARY, [name], PROSE).found_in(f"seen: {text.replace('w', 'q')}.")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (LONG, "de Gil"),
        (LONG, "paz de la vida"),
        (LONGER, "y Paz"),
        (LONGER, "del Mar"),
        (LONGER, "mar and gil"),
        ("Al Ali^Noor bin Omar Said Taha", "bin Omar"),
        ("Ek^Bo von der Ahe Au Ost Um", "von Ost"),
        ("Ek^Bo von der Ahe Au Ost Um", "der Um"),
    ],
)
def test_a_particle_is_no_second_part(name: str, text: str) -> None:
    assert collect([name], VOCABULARY, [name], PROSE).found_in(f"seen: {text}.") == set()


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "O'Neil^Pat",
            [
                "O Neil",
                "O-Neil",
                "o_neil",
                "ONEIL",
                "O\u2019Neil",
                "O\u02bcNeil",
                "O\u2032Neil",
                "O&#39;Neil",
                "O%27Neil",
            ],
        ),
        ("ONEIL^PAT", ["O Neil", "O'Neil", "O.Neil"]),
        ("O Neil^Pat", ["O'Neil", "ONeil", "oneil", "O Neil", "O-Neil's"]),
        ("McDonald^Jo", ["Mc Donald", "MCDONALD", "mc-donald", "Mc_Donald"]),
        ("Mc Lee^Jo", ["McLee", "MCLEE", "Mc-Lee", "mc lee"]),
        ("MacRae^Jo", ["Mac Rae", "mac_rae", "Macrae"]),
        ("D'Amico^Jo", ["D Amico", "Damico", "d-amico"]),
        ("N'Diaye^Jo", ["N Diaye", "Ndiaye", "n_diaye"]),
        ("Ta'ase^Jo", ["Ta ase", "Taase", "ta-ase"]),
        ("Yoon-Ah^Jo", ["Yoon Ah", "YoonAh", "yoon_ah", "Yoon\u2010Ah"]),
        ("BergLund^Jo", ["Berg Lund", "Berg-Lund", "BERGLUND"]),
        ("BERGLUND^JO", ["Berg-Lund", "Berg\u2010Lund", "Berg-\nlund"]),
        ("van Dyk^Jo", ["VanDyk", "vandyk", "Van-Dyk"]),
        ("van der Aa^Jo", ["vanderAa", "Vanderaa", "van-der-Aa"]),
    ],
)
def test_signs_and_blanks_inside_a_name_hide_nothing(name: str, texts: list[str]) -> None:
    private = collect([name], VOCABULARY, [name], PROSE)
    for text in texts:
        assert private.found_in(f"seen: {text}; twice"), text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("McDonald^Jo", "Donald"),
        ("O'Neil^Pat", "neil"),
        ("Oliver^Jo", "the liver"),
        ("MacRae^Jo", "a mac"),
        ("D'Amico^Jo", "amico"),
        ("Ta'ase^Jo", "ta and ase"),
    ],
)
def test_half_of_a_divided_name_is_chance(name: str, text: str) -> None:
    assert collect([name], VOCABULARY, [name], PROSE).found_in(text) == set()


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "Lindqvist^Pat",
            [
                "Lindqvist2",
                "2lindqvist",
                "PatLindqvist",
                "lindqvist_ga22",
                "ga22lindqvist",
                "xlindqvisty",
                "patlindqvist",
                "LINDQVISTPAT2",
                "scanLindqvistA",
                "FrauLindqvist",
            ],
        ),
        ("Meier^Pat", ["Meier2", "PatMeier", "FrauMeier", "meier01b", "DRMeierScan", "Meier_2"]),
        (
            "Doe^Jane",
            ["jane_doe2", "Jane2Doe", "JaneDoeScan", "Jane Doe2", "scan7JaneDoe", "drJaneDoe"],
        ),
        ("Li^Na", ["Li Na2", "LiNa22", "scan_LiNa", "li2na", "na_li3"]),
        ("Петрова^Анна", ["Петрова2", "АннаПетрова", "ПЕТРОВА_2"]),
    ],
)
def test_what_is_glued_to_a_name_does_not_hide_it(name: str, texts: list[str]) -> None:
    private = collect([name], VOCABULARY, [name], PROSE)
    for text in texts:
        assert private.found_in(f"seen: {text}; twice"), text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Meier^Pat", "xmeiery"),
        ("Stern^Pat", "the sternum"),
        ("Doe^Jane", "doe2"),
        ("Li^Na", "lina"),
        ("Fadda^Jo", "0fadda3c9b7e41d2"),
        ("Parent^Jo", "transparent"),
        ("Ventri^Jo", "ventricle"),
        ("Brain^Jo", "midbrain2"),
    ],
)
def test_short_names_inside_words_and_names_inside_our_own_words_are_chance(
    name: str, text: str
) -> None:
    private = collect([name], VOCABULARY | {"transparent"}, [name], PROSE | {"transparent"})
    assert private.found_in(text) == set()


def test_no_word_that_we_write_is_taken_for_a_name(tmp_path: Path) -> None:
    names = [
        "Parent^Jo",
        "Porter^Jo",
        "Sector^Jo",
        "Romano^Jo",
        "Carter^Jo",
        "Weight^Jo",
        "Abdome^Jo",
        "Ceder^Jo",
    ]
    study = make_study(tmp_path / "study", **person(*names))
    caption(study, "Ultrasound of a fetal abdomen, cerebellum and lateral ventricle; reported.")
    write_text(study.root / "run.json", '{"region_weight": 1, "image_weights": 2}')
    assert check_privacy(study)


@pytest.mark.parametrize(
    "text",
    [
        "A. Lee",
        "Lee, A.",
        "Lee, A",
        "A Lee",
        "A.LEE",
        "LEE^A",
        "lee_a",
        "a_lee",
        "Dr. A. Lee",
        "a. lee",
        "LEE A",
        "A LEE",
        "Lee A.",
    ],
)
@pytest.mark.parametrize("first", ["A", "I"])
def test_the_initials_a_and_i_count_where_they_are_written_as_such(first: str, text: str) -> None:
    name = f"Lee^{first}nes"
    written = re.sub(r"(?<![A-Za-z])A(?![A-Za-z])", first, text).replace("_a", f"_{first.lower()}")
    written = re.sub(r"(?<![A-Za-z])a(?=[._])", first.lower(), written)
    assert collect([name], VOCABULARY, [name], PROSE).found_in(f"seen: {written}; twice"), written


@pytest.mark.parametrize(
    "text",
    [
        "a lee",
        "I lee",
        "A lee side",
        "lee, a side",
        "the lee. A side",
        "i lee",
        "via lee",
        "Lee and A",
        "the lee a",
    ],
)
def test_words_a_and_i_are_no_initials(text: str) -> None:
    private = collect(["Lee^Anes", "Lee^Ines"], VOCABULARY, ["Lee^Anes", "Lee^Ines"], PROSE)
    assert private.found_in(text) == set()


def test_short_names_are_chance_among_numbers(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", **person("Li^Na"))
    write_bytes(study.root / "weights.bin", bytes(range(128, 256)) + b" li na ")
    assert check_privacy(study)


def test_a_name_in_two_columns_of_a_table_is_no_name_across_two_cells(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", **person("Li^Na"))
    study.write(IMAGES, from_rows(IMAGES, [
        {"source_id": "s", "frame": number, "status": "accepted", "center": center}
        for number, center in enumerate(("Li", "Na"))
    ]))  # fmt: skip
    assert check_privacy(study)


@pytest.mark.parametrize(
    "text", ["patient id", "Version", "DERIVED", "mask proposed", "Tissue", "Harmonic image"]
)
def test_our_own_words_are_no_secrets_of_a_header(tmp_path: Path, text: str) -> None:
    study = make_study(tmp_path / "study", private=[text], path=f"/raw/{text}/1.png".encode())
    mask: dict[str, object] = {
        "mask_id": "m",
        "image_id": "i",
        "structure": "femur",
        "height": 9,
        "width": 9,
    }
    mask |= {
        "counts": "abc",
        "box_x": 1,
        "box_y": 1,
        "box_width": 1,
        "box_height": 1,
        "source": "manual",
        "area": 3,
    }
    study.write(MASKS, from_rows(MASKS, [mask | {"state": "proposed"}]))
    write_text(
        study.root / "run.json",
        '{"version": "1.0", "mask_states": ["mask proposed"], "patient_id": "DERIVED"}',
    )
    rows = [
        {"source_id": "s", "frame": 0, "status": "rejected", "spacing_reason": "region_not_tissue"}
    ]
    study.write(IMAGES, from_rows(IMAGES, rows))
    assert check_privacy(study)


@pytest.mark.parametrize(
    "code", ["blank", "released", "soft", "clipped", "renderings", "region_not_tissue"]
)
def test_a_person_called_like_a_code_is_private_outside_its_column(
    tmp_path: Path, code: str
) -> None:
    name = max(code.split("_"), key=len)
    study = make_study(tmp_path / "study", **person(f"{name.upper()}^EVAMARIE"))
    codes = [one for one in REASONS if one == code]
    reason = code if code in SPACING_REASONS else None
    row: dict[str, object] = {"source_id": "s", "frame": 0, "status": "error", "reasons": codes}
    study.write(IMAGES, from_rows(IMAGES, [row | {"spacing_reason": reason}]))
    assert check_privacy(study)
    caption(study, f"Frau {name} EvaMarie was here.")
    with pytest.raises(PrivacyError, match="column 'text'"):
        check_privacy(study)


def test_every_code_that_the_readers_write_is_in_the_list() -> None:
    readers = Path(__file__).parents[3] / "curation" / "readers"
    text = "".join(
        (readers / name).read_text()
        for name in ("dicom_regions.py", "images.py", "dicom_pixels.py", "pixel_layout.py")
    )
    written = set(re.findall(r'"((?:no_)?regions?_[a-z_]+|not_dicom|no_regions)"', text))
    assert written <= set(SPACING_REASONS) and len(written) > 6


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    patient = make_patient(0, "A", 0)
    return expose(patient, patient.exams[1], "femur", np.random.default_rng(1)).frames[0]


def png_with_texts(frame: np.ndarray, **texts: str) -> bytes:
    import cv2

    content = cv2.imencode(".png", frame)[1].tobytes()
    for key, value in texts.items():
        body = key.encode() + b"\0" + value.encode()
        chunk = (
            struct.pack(">I", len(body))
            + b"tEXt"
            + body
            + struct.pack(">I", zlib.crc32(b"tEXt" + body))
        )
        content = content[:33] + chunk + content[33:]
    return content


def test_well_known_keys_of_png_texts_are_no_secrets_and_others_and_all_values_are(
    frame: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    keys = {"patient id": "PX44718", "Creation Time": "Quackenbush", "Ada Wolstenholme": "on"}
    (tmp_path / "raw" / "1.png").write_bytes(png_with_texts(frame, **keys))
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    private = private_strings(study)
    assert private.found_in("patient id Creation Time") == set()
    assert private.found_in("PX44718") and private.found_in("quackenbush")
    assert private.found_in("wolstenholme ada")


def test_names_of_headers_and_records_are_persons(frame: np.ndarray, tmp_path: Path) -> None:
    patient = make_patient(0, "A", 0)
    content = dicom_file(
        frame[None], patient, patient.exams[1], PROBES["A"], 0.2, DicomForm()
    ).content
    data = dcmread(io.BytesIO(content))
    data.PatientName, data.OperatorsName, data.ReferringPhysicianName = (
        "Li^Na",
        ["Bo^Ek", "Vu^Ky"],
        "Oh Mi",
    )
    data.ManufacturerModelName = "Voluson"
    (tmp_path / "raw").mkdir()
    data.save_as(tmp_path / "raw" / "1.dcm", enforce_file_format=True)
    (tmp_path / "records.csv").write_text(
        "File;First name;Last name;Sonographer;View\n1.dcm;Ai;Xu;Ty Zo;Femur\n"
    )
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(tmp_path / "raw", tmp_path / "records.csv"), Engine(jobs=1))
    private = private_strings(study)
    for text in ("na li", "ek bo", "ky vu", "Dr. Mi Oh", "xu, ai", "zo ty"):
        assert private.found_in(text) & private.persons, text
