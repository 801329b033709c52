"""Text inside the sector: what is read decides whether a frame is quarantined."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png
from sono.curation.core.workspace import Workspace
from sono.curation.imaging import ocr
from sono.curation.imaging.ocr import Word, check_tesseract, judge_print, looks_private, read_words
from sono.curation.imaging.quality import QualityConfig
from sono.curation.phantom.frames import expose
from sono.curation.phantom.patients import make_patient
from sono.curation.privacy.misread import says_private
from sono.curation.qc import QcOptions, run_qc

needs_tesseract = pytest.mark.skipif(
    not shutil.which("tesseract"), reason="tesseract-ocr is not installed"
)
PATIENT = make_patient(2, "A", 0)


def words(*texts: str, confidence: float = 90) -> list[Word]:
    return [Word(text, confidence, "1.1") for text in texts]


def phantom_frame(number: int = 0) -> np.ndarray:
    return (
        expose(PATIENT, PATIENT.exams[1], "transthalamic", np.random.default_rng(number))
        .frames[0]
        .copy()
    )


def burn(frame: np.ndarray, lines: list[str], size: float = 0.7) -> np.ndarray:
    for number, line in enumerate(lines):
        cv2.putText(
            frame,
            line,
            (250, 330 + 34 * number),
            cv2.FONT_HERSHEY_SIMPLEX,
            size,
            235,
            1,
            cv2.LINE_AA,
        )
    return frame


@pytest.mark.parametrize(
    "texts",
    [
        ("15.09.2024",),
        ("MB898558",),
        ("4890639",),
        ("ID4890639",),
        ("Ulvskog", "Sieglinde"),
        ("DOE^JANE", "HOSPITAL"),
    ],
)
def test_dates_ids_and_pairs_of_names_look_private(texts: tuple[str, ...]) -> None:
    assert looks_private(words(*texts))
    assert not looks_private(words(*texts, confidence=70))


@pytest.mark.parametrize(
    "texts",
    [("Trim.",), ("124/129",), ("SRI",), ("HEAD", "FEMUR"), ("Ulvskog",), ("12.4cm",), ("C1-5-D",)],
)
def test_what_scanners_print_does_not(texts: tuple[str, ...]) -> None:
    assert not looks_private(words(*texts))


def test_names_in_different_lines_are_no_pair() -> None:
    assert not looks_private([Word("Ulvskog", 90, "1.1"), Word("Other", 90, "2.1")])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ulvskog", True),
        ("Ulvskoq", True),
        ("Siegtinde", True),
        ("Transthalamic", False),
        ("Volume", False),
    ],
)
def test_a_name_of_the_record_is_known_although_misread(text: str, found: bool) -> None:
    assert says_private([text], ["Ulvskog, Sieglinde", "MB898558"]) == found


def test_without_tesseract_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr.shutil, "which", lambda name: None)
    with pytest.raises(SonoError, match="apt-get install tesseract-ocr"):
        check_tesseract()


@needs_tesseract
def test_burned_lines_are_read_on_speckle() -> None:
    lines = [
        f"{PATIENT.surname} {PATIENT.forename}",
        PATIENT.mrn,
        f"{PATIENT.exams[1].day:%d.%m.%Y}",
    ]
    read = read_words(burn(phantom_frame(), lines)) or []
    assert looks_private(read)
    assert says_private([word.text for word in read], [PATIENT.dicom_name])


@needs_tesseract
def test_tissue_alone_says_nothing() -> None:
    clean = phantom_frame()[100:, 200:600]
    read = read_words(clean)
    assert read is not None and not looks_private(read)


@needs_tesseract
def test_qc_with_ocr_sets_a_frame_with_a_small_name_aside(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "named.png").write_bytes(encode_png(burn(phantom_frame(1), [PATIENT.surname], 0.6)))
    (raw / "clean.png").write_bytes(encode_png(phantom_frame(2)))
    (tmp_path / "records.csv").write_text(
        f"file,name\nnamed.png,{PATIENT.surname}\nclean.png,{PATIENT.surname}\n"
    )
    study = Workspace.create(tmp_path / "study")
    options = QcOptions(raw, tmp_path / "records.csv")
    settings = study.config_path.read_text()
    study.config_path.write_text(settings + '\n[qc]\nburned_text = "remark"\n')
    run_qc(study, options, Engine(jobs=1))
    assert list(study.images()["status"]) == ["accepted", "accepted"]
    study.config_path.write_text(settings + '\n[qc]\nocr = true\nburned_text = "remark"\n')
    summary = run_qc(study, options, Engine(jobs=1))
    assert summary.statuses == {"accepted": 1, "quarantined": 1}
    assert summary.reasons["text_in_sector"] == 1
    assert run_qc(study, options, Engine(jobs=1)).statuses == summary.statuses
    assert len(list(study.frames.rglob("*.png"))) == 1


@pytest.mark.parametrize(
    "script", ["exit 1", "exit 0", "head -c 3000 /dev/urandom", "kill -9 $$", "echo level"]
)
def test_a_tesseract_that_fails_is_no_empty_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program = tmp_path / "tesseract"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert read_words(np.zeros((200, 200), np.uint8)) is None
    with pytest.raises(SonoError, match="cannot read a plain word"):
        check_tesseract()


def test_a_frame_that_could_not_be_read_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw").mkdir()
    content = cv2.imencode(".png", phantom_frame())[1].tobytes()
    (tmp_path / "raw" / "1.png").write_bytes(content)
    study = Workspace.create(tmp_path / "study")
    study.config_path.write_text(study.config_path.read_text() + "\n[qc]\nocr = true\n")
    monkeypatch.setattr("sono.curation.qc.check_tesseract", lambda: None)
    monkeypatch.setattr("sono.curation.imaging.ocr.read_words", lambda gray: None)
    summary = run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    assert summary.statuses == {"quarantined": 1} and "print_unread" in summary.reasons


def judged(line: str, **settings: object) -> list[str]:
    frame = phantom_frame()[100:, 200:600].copy()
    cv2.putText(frame, line, (60, 230), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 235, 1, cv2.LINE_AA)
    return judge_print(
        frame, np.ones(frame.shape, np.bool_), QualityConfig.model_validate(settings)
    )[0]


def test_a_line_of_print_is_held_without_being_read_and_a_caliper_s_letter_is_not() -> None:
    assert judged("ULVSKOG") == judged("12.03.1984") == ["text_in_sector"]
    assert judged("ULVSKOG", burned_text="remark") == ["overlay"]
    assert judged("") == judged("A") == judged("+") == []


@needs_tesseract
def test_tesseract_lets_pass_what_scanners_write_and_holds_what_it_does_not_know() -> None:
    assert judged("HEAD", ocr=True) == judged("124/129", ocr=True) == ["overlay"]
    assert judged("ULVSKOG", ocr=True) == judged("HEAD ULVSKOG", ocr=True) == ["text_in_sector"]
    assert judged("12.03.84", ocr=True) == ["text_in_sector"]
