"""The gate on sources with a name in every part of every format.

The vault knows all of these names, and none of them passes `sono qc`.
"""

import io
import struct
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from rich.console import Console

from sono.annotation.captions import build_captions
from sono.annotation.study_report import write_statistics_report
from sono.curation.core import console
from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.export_dicom import export_dicom
from sono.curation.phantom.burned_in_overlays import burn_inside
from sono.curation.phantom.files import DicomForm, dicom_file
from sono.curation.phantom.frames import PROBES, expose
from sono.curation.phantom.patients import make_patient
from sono.curation.privacy.gate import check_privacy, private_strings
from sono.curation.privacy.private_strings import PrivateStrings
from sono.curation.qc import QcOptions, run_qc

# A name for each hiding place, so that each must be read there; not one is a word of another.
HIDDEN = {
    "PatientName": "Abernathy", "OtherPatientNames": "Bickerstaff",
    "PatientComments": "Crowninshield", "InstitutionAddress": "Dunfermline",
    "OperatorsName": "Etxeberria", "StudyID": "Fotheringay", "ImageComments": "Gainsborough",
    "PixelComments": "Hattersley", "StationName": "Inverarity", "private tag": "Jablonowska",
    "private bytes": "Kowalczyk", "private Latin-1 bytes": "Lourenço",
    "private UTF-16 bytes": "Mikołajczyk", "nested": "Nieuwenhuis",
    "nested twice in private": "Ollivander", "overlay": "Pemberton", "icon": "Quackenbush",
    "preamble": "Rutherglen", "meta": "Szczepanski", "after the pixels": "Throckmorton",
    "folder name": "Umbridge", "file name": "Vandersloot",
}  # fmt: skip
PICTURES = {
    "tEXt": "Wolstenholme", "zTXt": "Yarborough", "iTXt": "Zschokke", "packed iTXt": "Ashkenazi",
    "eXIf": "Bohannon", "after a PNG": "Cadwallader", "UTF-16 after a PNG": "Drinkwater",
    "EXIF": "Esterhazy",
    "EXIF XPAuthor": "Featherstone",
    "JPEG comment": "Gillespie", "Latin-1 comment": "Hernández", "after a JPEG": "Iturbide",
    "TIFF tag": "Jarzembowski", "broken PNG": "Kirkpatrick", "broken JPEG": "Llewellyn",
    "folder": "Montgomery", "file in UTF-8": "Núñezová",
}  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    patient = make_patient(0, "A", 0)
    return expose(patient, patient.exams[1], "femur", np.random.default_rng(1)).frames[0]


def dicom_with_secrets(frame: np.ndarray) -> bytes:
    patient = make_patient(0, "A", 0)
    export = dicom_file(frame[None], patient, patient.exams[1], PROBES["A"], 0.2, DicomForm())
    data = dcmread(io.BytesIO(export.content))
    data.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (
        "PatientName",
        "OtherPatientNames",
        "PatientComments",
        "InstitutionAddress",
        "OperatorsName",
    ):
        setattr(data, keyword, HIDDEN[keyword])
    for keyword in ("StudyID", "ImageComments", "StationName"):
        setattr(data, keyword, HIDDEN[keyword])
    data.add_new(0x00284000, "LT", HIDDEN["PixelComments"])
    block = data.private_block(0x0019, "HIDDEN PLACES", create=True)
    block.add_new(0x01, "LO", HIDDEN["private tag"])
    block.add_new(0x02, "OB", b"\x01\x02" + HIDDEN["private bytes"].encode() + b"\0\xfe\0")
    block.add_new(
        0x03, "UN", b"\x01\xff" + HIDDEN["private Latin-1 bytes"].encode("latin-1") + b"\0\xff"
    )
    block.add_new(0x04, "UN", HIDDEN["private UTF-16 bytes"].encode("utf-16-le"))
    inner, outer, icon = Dataset(), Dataset(), Dataset()
    inner.PersonName = HIDDEN["nested twice in private"]
    outer.ReferencedPatientSequence = Sequence([inner])
    block.add_new(0x05, "SQ", Sequence([outer]))
    data.RequestAttributesSequence[0].RequestedProcedureDescription = HIDDEN["nested"]
    data.add_new(0x60000022, "LO", HIDDEN["overlay"])
    icon.Rows = icon.Columns = 2
    icon.PixelData, icon.ImageComments = b"\0\1\2\3", HIDDEN["icon"]
    icon["PixelData"].VR = "OB"
    data.IconImageSequence = Sequence([icon])
    data.preamble = HIDDEN["preamble"].encode().ljust(128, b"\0")
    data.file_meta.SourceApplicationEntityTitle = HIDDEN["meta"]
    data.add_new(0xFFFCFFFC, "OB", HIDDEN["after the pixels"].encode())
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def png(frame: np.ndarray, kind: bytes = b"", body: bytes = b"") -> bytes:
    content = cv2.imencode(".png", frame)[1].tobytes()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content[:33] + chunk + content[33:] if kind else content


def jpeg(frame: np.ndarray, **save: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=85, **save)
    return buffer.getvalue()


def exif(tag: int, value: object) -> bytes:
    tags = Image.Exif()
    tags[tag] = value
    return tags.tobytes()


def tiff(frame: np.ndarray, text: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "TIFF", description=text)
    return buffer.getvalue()


MAKERS: dict[str, Callable[[np.ndarray, str], bytes]] = {
    "tEXt": lambda frame, name: png(frame, b"tEXt", b"Author\0" + name.encode()),
    "zTXt": lambda frame, name: png(frame, b"zTXt", b"Author\0\0" + zlib.compress(name.encode())),
    "iTXt": lambda frame, name: png(frame, b"iTXt", b"Author\0\0\0\0\0" + name.encode()),
    "packed iTXt": lambda frame, name: png(
        frame, b"iTXt", b"Author\0\1\0\0\0" + zlib.compress(name.encode())
    ),
    "eXIf": lambda frame, name: png(frame, b"eXIf", exif(0x010E, name)[6:]),
    "after a PNG": lambda frame, name: png(frame) + name.encode(),
    "UTF-16 after a PNG": lambda frame, name: png(frame) + name.encode("utf-16"),
    "EXIF": lambda frame, name: jpeg(frame, exif=exif(0x013B, name)),
    "EXIF XPAuthor": lambda frame, name: jpeg(frame, exif=exif(0x9C9D, name.encode("utf-16-le"))),
    "JPEG comment": lambda frame, name: jpeg(frame, comment=name.encode()),
    "Latin-1 comment": lambda frame, name: jpeg(frame, comment=b"Nome: " + name.encode("latin-1")),
    "after a JPEG": lambda frame, name: jpeg(frame) + name.encode(),
    "TIFF tag": tiff,
    "broken PNG": lambda frame, name: png(frame, b"tEXt", b"Author\0" + name.encode())[:5000],
    "broken JPEG": lambda frame, name: jpeg(frame, comment=name.encode())[:5000],
    "folder": lambda frame, name: png(frame),
    "file in UTF-8": lambda frame, name: png(frame),
}


@pytest.fixture(scope="module")
def study(frame: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    base = tmp_path_factory.mktemp("gate")
    raw = base / "raw"
    folder = raw / f"{HIDDEN['folder name']} F 1984"
    folder.mkdir(parents=True)
    (folder / f"{HIDDEN['file name']}.dcm").write_bytes(dicom_with_secrets(frame))
    for number, (place, name) in enumerate(PICTURES.items()):
        where = raw / name if place == "folder" else raw
        where.mkdir(exist_ok=True)
        other = np.roll(frame, number, axis=1)  # no exact duplicates
        (where / f"{name if place == 'file in UTF-8' else number}.img").write_bytes(
            MAKERS[place](other, name)
        )
    header = "File;MRN;Name;DOB;Exam date;LMP;View;GA;Hospital;Accession;Phone;Physician\n"
    row = (
        "0.img;0048151623;Rasmussen, Liv "
        "Åse;21.03.1984;2023-05-04;1/2/2023;Femur;22+3;A;ACC-0042;+34 600 123 456;"
    )
    (base / "records.csv").write_text(header + row + "Dr. Sutherland\n", encoding="utf-8")
    workspace = Workspace.create(base / "study")
    run_qc(workspace, QcOptions(raw, base / "records.csv", center_from="Hospital"), Engine(jobs=1))
    build_captions(workspace)
    write_statistics_report(workspace)
    return workspace


@pytest.fixture(scope="module")
def private(study: Workspace) -> PrivateStrings:
    return private_strings(study)


@pytest.mark.parametrize(("place", "name"), [*HIDDEN.items(), *PICTURES.items()])
def test_every_hiding_place_is_read(private: PrivateStrings, place: str, name: str) -> None:
    for text in (name, name.upper(), f"seen by {name}."):
        assert private.found_in(text), place


@pytest.mark.parametrize(
    "text",
    [
        "48151623",
        "0048151623",
        "Liv Åse",
        "rasmussen",
        "3/21/84",
        "19840321",
        "May 4, 2023",
        "01.02.2023",
        "+34600123456",
        "SUTHERLAND",
        "Aase Liv",
        "liv_ase",
    ],
)
def test_the_records_table_is_read(private: PrivateStrings, text: str) -> None:
    assert private.found_in(text)


def test_nothing_of_it_comes_through_three_stages(study: Workspace) -> None:
    assert len(study.accepted_images()) >= 10
    assert {path.suffix for path in study.root.rglob("*") if path.is_file()} >= {
        ".parquet",
        ".png",
        ".html",
    }
    assert check_privacy(study) > 100


def test_the_search_shows_its_progress_on_a_terminal(
    study: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True)
    monkeypatch.setattr(console, "stderr_console", terminal)
    check_privacy(study)
    count = len(list(study.root.rglob("*")))
    assert "privacy search" in shown.getvalue() and f"{count}/{count}" in shown.getvalue()


def test_gate_words_of_the_field_stay_free(private: PrivateStrings) -> None:
    sentence = (
        "A fetal ultrasound image of the femur plane at 22 weeks and 3 days of gestation, "
        "showing the femur."
    )
    assert private.found_in(sentence) == set()


@pytest.mark.parametrize("claim", ["NO", "YES", None])
def test_what_a_file_claims_of_burned_in_print_changes_nothing(
    frame: np.ndarray, tmp_path: Path, claim: str | None
) -> None:
    patient = make_patient(0, "A", 0)
    printed = frame.copy()
    burn_inside(printed, [patient.mrn], PROBES["A"])
    data = dcmread(
        io.BytesIO(
            dicom_file(
                printed[None], patient, patient.exams[1], PROBES["A"], 0.2, DicomForm()
            ).content
        )
    )
    if claim:
        data.BurnedInAnnotation = claim
    (tmp_path / "raw").mkdir()
    data.save_as(tmp_path / "raw" / "1.dcm", enforce_file_format=True)
    study = Workspace.create(tmp_path / "study")
    summary = run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    assert summary.statuses == {"quarantined": 1}  # whatever the file says
    assert {"text_in_sector", "private_text"} & set(summary.reasons)


def test_exam_dates_are_kept_shifted_where_the_study_asks_for_it(
    frame: np.ndarray, tmp_path: Path
) -> None:
    patient = make_patient(0, "A", 0)
    (tmp_path / "raw").mkdir()
    for number, exam in enumerate(patient.exams):
        content = dicom_file(
            np.roll(frame, 3 * number, 1)[None], patient, exam, PROBES["A"], 0.2, DicomForm()
        ).content
        (tmp_path / "raw" / f"{number}.dcm").write_bytes(content)
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    assert study.images()["exam_date"].isna().all()
    study.config_path.write_text(
        study.config_path.read_text().replace("[study]\n", '[study]\nkeep_dates = "shifted"\n')
    )
    summary = run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    assert summary.measured == 0
    kept = sorted(map(date.fromisoformat, study.images()["exam_date"]))
    early, late = (exam.day for exam in patient.exams)
    assert kept[1] - kept[0] == late - early
    assert kept[0].year > 2100
    export_dicom(study, tmp_path / "out")
    days = {dcmread(path).StudyDate for path in (tmp_path / "out").rglob("*.dcm")}
    assert days == {f"{day:%Y%m%d}" for day in kept}
