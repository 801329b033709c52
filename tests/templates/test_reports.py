import re
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from pycocotools.mask import encode

from sono.annotation.study_report import write_statistics_report
from sono.curation.core.column_values import MASK_SOURCES
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace
from sono.templates.reports import _environment, data_uri, render_report, words

HOSTILE = '<script>alert("x")</script>'


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (60, 80), np.uint8)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Thirty accepted frames of two planes with masks, one rejected, one file gone."""
    workspace = Workspace.create(tmp_path_factory.mktemp("reports") / "study")
    images, masks = [], []
    for number in range(31):
        name = f"{number:032x}"
        row = {
            "source_id": name,
            "image_id": name,
            "frame": 0,
            "status": "accepted",
            "file": frame_file(name, picture(number)),
        }
        images.append(
            row
            | {"plane": ("femur", "lvot")[number % 2], "ga_days": 150 + number, "center": HOSTILE}
        )
        path = workspace.root / str(row["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(picture(number)))
        counts = encode(np.asfortranarray(np.eye(60, 80, dtype=np.uint8)))["counts"].decode()
        box = {
            "box_x": 0,
            "box_y": 0,
            "box_width": 60,
            "box_height": 60,
            "area": 60,
            "height": 60,
            "width": 80,
        }
        mask = {
            "mask_id": name,
            "image_id": name,
            "structure": "femur",
            "counts": counts,
            "source": "sam",
        }
        masks.append(mask | box | {"state": "accepted"})
    images[30] |= {"status": "rejected", "reasons": ["blurred"], "file": None}
    (workspace.root / str(images[0]["file"])).unlink()
    workspace.write(IMAGES, from_rows(IMAGES, images))
    workspace.write(MASKS, from_rows(MASKS, masks))
    return workspace


def test_the_report_is_whole_and_loads_nothing(study: Workspace) -> None:
    stats, path = write_statistics_report(study)
    html = path.read_text(encoding="utf-8")
    assert stats.frames["accepted"] == 30
    assert path == study.root / "report.html" and path.stat().st_size < 5_000_000
    assert "default-src 'none'" in html and "not a medical device" in html
    assert html.count('src="data:image/png;base64,') == 3
    assert not re.search(r"https?://|<script |<link|url\(|@import", html)
    assert html.count("<script") == 1  # that which sorts tables


def test_values_are_escaped(study: Workspace) -> None:
    html = write_statistics_report(study)[1].read_text(encoding="utf-8")
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_the_numbers_stand_in_the_report(study: Workspace) -> None:
    html = write_statistics_report(study)[1].read_text(encoding="utf-8")
    assert "no detail inside the sector" in html
    assert "30 accepted ultrasound frames of 31 read" in html
    assert "<b>30</b> frames accepted" in html and "<b>30</b> masks for training" in html
    assert "accepted (trained on)" in html and "proposed (trained on)" not in html


def test_the_sources_of_masks_are_explained(study: Workspace) -> None:
    assert set(words("sources")) == set(MASK_SOURCES)
    html = write_statistics_report(study)[1].read_text(encoding="utf-8")
    assert "Sources: sam, outlined by SAM." in html


def test_masks_are_trained_on_as_the_settings_say(study: Workspace) -> None:
    text = study.config_path.read_text()
    study.config_path.write_text(text + '\n[training]\nmask_states = ["proposed"]\n')
    stats, report = write_statistics_report(study)
    study.config_path.write_text(text)
    assert stats.mask_totals["trained_on"] == 0 and stats.trained_states == ("proposed",)
    assert "proposed (trained on)" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize(("rows", "tag"), [(12, "<details open>"), (13, "<details>")])
def test_a_long_table_is_folded(rows: int, tag: str) -> None:
    parts = _environment().get_template("parts.html.j2").module
    html = parts.folded("Measures", [["p", "part"]], [{"p": 1}] * rows)  # type: ignore[attr-defined]
    assert str(html).startswith(f"{tag}<summary>Measures <small>({rows} rows)")


def test_the_same_study_gives_the_same_report(study: Workspace) -> None:
    first = write_statistics_report(study)[1].read_bytes()
    assert write_statistics_report(study)[1].read_bytes() == first


def test_a_study_without_accepted_frames_has_a_report(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "empty")
    workspace.write(IMAGES, from_rows(IMAGES, [{"source_id": "s", "frame": 0, "status": "error"}]))
    html = write_statistics_report(workspace)[1].read_text(encoding="utf-8")
    assert "No masks yet." in html and "Example frames" not in html


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render_report("statistics.html.j2", study="x")


def test_data_uri_is_base64() -> None:
    assert data_uri(b"abc") == "data:image/png;base64,YWJj"
