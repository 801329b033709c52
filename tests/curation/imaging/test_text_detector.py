"""Text on a frame: found and read in every direction, and judged by what it says."""

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png
from sono.curation.core.workspace import Workspace
from sono.curation.imaging import judged_text, text_detector
from sono.curation.imaging.judged_text import (
    is_harmless,
    is_text,
    judge_text,
    looks_like_id,
    text_search,
)
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector, find_sector
from sono.curation.imaging.text_detector import (
    DETECTOR,
    READER,
    Text,
    find_text,
    is_installed,
    read_text,
)
from sono.curation.phantom.frames import expose
from sono.curation.phantom.patients import make_patient
from sono.curation.privacy.misread import says_private
from sono.curation.qc import QcOptions, run_qc

needs_detector = pytest.mark.skipif(not is_installed(), reason="the extra ocr is not installed")
PATIENT = make_patient(2, "A", 0)
RULES = QualityConfig(text="rules")


def phantom_frame(number: int = 0) -> np.ndarray:
    shot = expose(PATIENT, PATIENT.exams[1], "transthalamic", np.random.default_rng(number))
    return shot.frames[0].copy()


def burn(frame: np.ndarray, line: str, angle: float = 0) -> np.ndarray:
    """The frame with a line of capitals of 12 pixels around its middle, turned by `angle`."""
    layer = np.zeros_like(frame)
    middle = (frame.shape[1] // 2, frame.shape[0] // 2)
    (wide, _), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)
    place = (middle[0] - wide // 2, middle[1] + 6)
    cv2.putText(layer, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 235, 1, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D(middle, angle, 1)
    return np.maximum(frame, cv2.warpAffine(layer, turn, frame.shape[::-1]))


def text(words: str, confidence: float = 0.95, length: float | None = None) -> Text:
    wide = 10.0 * len(words) if length is None else length
    return Text(0.9, 0.9, ((300.0, 300.0), (wide, 16.0), 0.0), words, confidence)


def judged(frame: np.ndarray, config: QualityConfig) -> tuple[Sector, list[str], list[str] | None]:
    everywhere = np.ones(frame.shape, np.bool_)
    whole = Sector((0, 0, frame.shape[1], frame.shape[0]), everywhere, "full", 0.0)
    return judge_text(frame, whole, config)


@needs_detector
@pytest.mark.parametrize("angle", [0, 20, 45, 90, 180])
def test_a_name_is_found_and_read_in_every_direction(angle: int) -> None:
    frame = burn(phantom_frame(), "Ulvskog Sieglinde", angle)
    found = [read_text(frame, one) for one in find_text(frame, least=0.6)]
    named = [one for one in found if says_private([one.words], [PATIENT.dicom_name])]
    assert any(is_text(one) and one.again > 0.8 for one in named)
    assert not all(map(is_harmless, found))


@needs_detector
@pytest.mark.parametrize("number", range(3))
def test_tissue_alone_is_no_text(number: int) -> None:
    frame = phantom_frame(number)
    _, codes, printed = judge_text(frame, find_sector(frame), QualityConfig())
    assert codes == [] and printed == []


@needs_detector
def test_a_scanner_s_words_are_a_remark_and_a_name_is_held() -> None:
    for line, code in (("HEAD", "overlay"), ("HEAD 124/129", "overlay"), ("Ulvskog", None)):
        _, codes, printed = judged(burn(phantom_frame(), line), QualityConfig())
        assert codes == [code or "text_in_sector"] and printed
    remark = QualityConfig(burned_text="remark")
    assert judged(burn(phantom_frame(), "Ulvskog"), remark)[1] == ["overlay"]
    assert judged(burn(phantom_frame(), "12.03.1984"), remark)[1] == ["text_in_sector"]


@needs_detector
def test_text_at_the_border_is_painted_over() -> None:
    frame = phantom_frame()
    frame[:] = 40  # a plain place at the lower border
    cv2.putText(frame, "Ulvskog", (300, 590), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 235, 1, cv2.LINE_AA)
    sector, codes, printed = judged(frame, QualityConfig())
    assert codes == [] and printed == []
    assert not sector.inside[frame > 128].any()
    assert sector.inside.mean() > 0.97


@needs_detector
def test_text_that_is_painted_over_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_detector, "_decode", lambda _: pytest.fail("a line was read"))
    frame = np.full((640, 800), 40, np.uint8)
    cv2.putText(frame, "Ulvskog", (300, 590), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 235, 1, cv2.LINE_AA)
    sector, _, _ = judged(frame, QualityConfig())
    assert not sector.inside[frame > 128].any()


@needs_detector
def test_places_are_where_edges_run_in_all_directions() -> None:
    rows = np.zeros((200, 400), np.uint8)
    rows[::4] = 120  # as dense and sharp as letters, and level
    assert text_detector._places(rows) == []
    cv2.putText(rows, "Ulvskog", (100, 110), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 235, 2)
    assert text_detector._places(rows)


@needs_detector
def test_the_detector_reaches_for_no_network_and_imports_no_rapidocr() -> None:
    script = (
        "import socket, sys, numpy as np\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from sono.curation.imaging.text_detector import find_text, read_text\n"
        "import cv2\n"
        "page = np.zeros((200, 400), np.uint8)\n"
        "cv2.putText(page, 'ULVSKOG', (60, 110), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 235, 2)\n"
        "print(read_text(page, find_text(page)[0]).words, 'rapidocr' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["ULVSKOG", "False"]


@needs_detector
def test_the_detector_changes_no_arithmetic_outside_of_it() -> None:
    small = np.full(1, 1e-30, np.float32)
    find_text(burn(phantom_frame(), "Ulvskog"))
    assert small * np.float32(1e-10) > 0  # a denormal number


@needs_detector
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_model_ends_qc_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    models = text_detector._models()
    for name in (DETECTOR, READER):
        (tmp_path / name).write_bytes((models / name).read_bytes())
    if damage == "truncated":
        (tmp_path / DETECTOR).write_bytes((models / DETECTOR).read_bytes()[:-1000])
    else:
        (tmp_path / READER).unlink()
    monkeypatch.setattr(text_detector, "_models", lambda: tmp_path)
    text_detector._session.cache_clear()
    study = Workspace.create(tmp_path / "study")
    (tmp_path / "raw").mkdir()
    with pytest.raises(SonoError, match=r"PP-OCR.*cannot be loaded.*pip install"):
        run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    text_detector._session.cache_clear()


@pytest.mark.parametrize(
    "words", ["HEAD", "124/129", "Voluson", "oluson", "BPD 8.4cm", "GA 21w3d", "FETO B", "RECHTS"]
)
def test_what_scanners_write_is_harmless(words: str) -> None:
    assert is_harmless(text(words))
    assert not is_harmless(text(words, confidence=0.6))  # not read surely
    assert not is_harmless(text(words, length=400))  # a part was not read


@pytest.mark.parametrize(
    "words",
    [
        "Ulvskog",
        "Li Na",
        "HEAD Ulvskog",
        "12.03.1984",
        "MB898558",
        "4890639",
        "王芳",
        "",
        " .",
        "Brian",
        "Feto Brian",
        "Ana B",
        "Izquierdo",
        "Rebelo",
        "Mp030",  # a Cyrillic name, misread
    ],
)
def test_a_name_date_or_id_is_not(words: str) -> None:
    assert not is_harmless(text(words, length=60))


def test_dates_and_numbers_of_patients_are_known() -> None:
    assert all(map(looks_like_id, ["15.09.2024", "ID 4890639", "MB898558"]))
    assert not any(map(looks_like_id, ["Ulvskog", "124/129", "12.4cm"]))


def test_only_long_or_surely_read_marks_are_text() -> None:
    box = ((50.0, 50.0), (20.0, 16.0), 0.0)
    assert is_text(Text(0.7, 0.1, box, "3B", 0.9))
    assert not is_text(Text(0.95, 0.9, box, "E", 0.99))  # a side mark
    assert not is_text(Text(0.9, 0.5, ((50.0, 50.0), (90.0, 16.0), 0.0)))
    assert is_text(Text(0.9, 0.9, ((50.0, 50.0), (90.0, 16.0), 0.0)))  # unknown script


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("Ulvskog", True),
        ("Ulvskoq", True),
        ("Siegtinde", True),
        ("Transthalamic", False),
        ("Voluson", False),
    ],
)
def test_a_name_of_the_record_is_known_although_misread(words: str, found: bool) -> None:
    private = ["Ulvskog, Sieglinde", "MB898558", "voluson/1.png"]
    assert says_private([words], private) == found


def test_rules_hold_a_line_without_reading_it() -> None:
    part = phantom_frame()[100:, 200:600]
    assert judged(burn(part, "ULVSKOG"), RULES)[1:] == (["text_in_sector"], None)
    assert judged(burn(part, "A"), RULES)[1:] == ([], None)
    remark = QualityConfig(text="rules", burned_text="remark")
    assert judged(burn(part, "ULVSKOG"), remark)[1] == ["overlay"]


def test_without_the_extra_rules_search_and_qc_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged_text, "is_installed", lambda: False)
    assert text_search(QualityConfig()) == "rules"
    with pytest.raises(SonoError, match=r"pip install 'sono\[ocr\]'"):
        text_search(QualityConfig(text="detector"))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "1.png").write_bytes(encode_png(phantom_frame()))
    study = Workspace.create(tmp_path / "study")
    summary = run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    assert any("searched by rules" in remark for remark in summary.remarks)


def test_off_is_a_remark_of_every_frame(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "1.png").write_bytes(encode_png(burn(phantom_frame(), "Ulvskog")))
    study = Workspace.create(tmp_path / "study")
    study.config_path.write_text(study.config_path.read_text() + '\n[qc]\ntext = "off"\n')
    summary = run_qc(study, QcOptions(tmp_path / "raw"), Engine(jobs=1))
    assert summary.statuses == {"accepted": 1} and summary.reasons["text_unsearched"] == 1
    assert any("was not searched" in remark for remark in summary.remarks)


@needs_detector
def test_qc_names_a_private_word_in_the_pixels_as_a_reason_of_its_own(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "named.png").write_bytes(encode_png(burn(phantom_frame(1), PATIENT.surname)))
    (raw / "other.png").write_bytes(encode_png(burn(phantom_frame(3), "Xanthakis")))
    (raw / "clean.png").write_bytes(encode_png(phantom_frame(2)))
    rows = "".join(f"{name}.png,{PATIENT.surname}\n" for name in ("named", "other", "clean"))
    (tmp_path / "records.csv").write_text(f"file,name\n{rows}")
    study = Workspace.create(tmp_path / "study")
    options = QcOptions(raw, tmp_path / "records.csv")
    summary = run_qc(study, options, Engine(jobs=1))
    assert summary.statuses == {"accepted": 1, "quarantined": 2}
    assert (summary.reasons["private_text"], summary.reasons["text_in_sector"]) == (1, 2)
    assert run_qc(study, options, Engine(jobs=1)).reasons == summary.reasons
    assert len(list(study.frames.rglob("*.png"))) == 1
    study.config_path.write_text(study.config_path.read_text() + '\n[qc]\nburned_text = "remark"\n')
    summary = run_qc(study, options, Engine(jobs=1))
    assert summary.statuses == {"accepted": 2, "quarantined": 1}
    assert summary.reasons["private_text"] == 1


@needs_detector
def test_the_detector_does_not_keep_an_interrupted_process_alive() -> None:
    find_text(burn(phantom_frame(), "LINDQVIST A"))
    own = [thread for thread in threading.enumerate() if thread.name.startswith("text detector")]
    assert own and all(thread.daemon for thread in own)


@pytest.mark.parametrize(
    ("likeness", "again", "confidence", "length", "height"),
    [
        (0.85, 0.68, 0.45, 256.0, 128.0),
        (0.81, 0.99, 0.97, 169.0, 89.0),
        (0.57, 0.97, 0.37, 23.0, 11.0),
        (0.88, 0.91, 0.76, 186.0, 98.0),
        (0.92, 0.61, 0.73, 83.0, 32.0),
        (0.88, 0.68, 0.3, 113.0, 66.0),  # the edge of a fan with two marks next to it
    ],
)
def test_coarse_speckle_is_no_text(
    likeness: float, again: float, confidence: float, length: float, height: float
) -> None:
    box = ((300.0, 300.0), (length, height), 0.0)
    assert not is_text(Text(likeness, again, box, "M", confidence))
    assert is_text(Text(0.9, 0.95, ((300.0, 300.0), (100.0, 20.0), 0.0), "M", confidence))
