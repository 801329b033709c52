"""The picture in a LabelMe file must be the frame that the file names."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from phantom_frames import write_frames
from PIL import Image
from studies import copy_study

from sono.annotation.import_options import ImportOptions
from sono.annotation.import_summary import ImportSummary
from sono.annotation.mask_import import import_masks
from sono.curation.core.engine import Engine
from sono.curation.core.frame_files import read_stored
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers.images import read_image

RING = [[300, 250], [500, 250], [500, 400], [300, 400]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study of three femurs; IM_2 was written as a JPEG with colored letters next to the echo."""
    base = tmp_path_factory.mktemp("embedded")
    write_frames(base / "raw", range(3))
    frame = read_image((base / "raw" / "IM_2.png").read_bytes()).frames[0].gray
    color = np.repeat(frame[..., None], 3, axis=2)
    cv2.putText(color, "22 Hz", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 0), 2)
    (base / "raw" / "IM_2.png").unlink()
    Image.fromarray(color).save(base / "raw" / "IM_2.jpg", quality=90)
    study = Workspace.create(base / "study")
    run_qc(study, QcOptions(base / "raw", center="A"), Engine(jobs=1))
    assert set(study.images()["status"]) == {"accepted"}
    return study


@pytest.fixture
def study(made: Workspace, tmp_path: Path) -> Workspace:
    return copy_study(made, tmp_path)


def raw(study: Workspace, name: str) -> bytes:
    paths = [Path(path.decode()) for path in study.sources()["path"]]
    return next(path for path in paths if path.name == name).read_bytes()


def encoded(picture: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


def labelme(folder: Path, data: Any, name: str = "IM_0.json", **changes: Any) -> Path:
    """A LabelMe file that names IM_0 and holds the picture `data`."""
    image = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    content = {
        "imagePath": "IM_0.png",
        "imageHeight": 600,
        "imageWidth": 800,
        "imageData": image,
        "shapes": [{"label": "femur", "points": RING, "shape_type": "polygon"}],
    }
    path = folder / name
    path.write_text(json.dumps(content | changes))
    return path


def taken(
    study: Workspace, folder: Path, data: Any, force: bool = False, **changes: Any
) -> ImportSummary:
    """The outcome of a LabelMe file, with nothing imported."""
    path = labelme(folder, data, **changes)
    return import_masks(study, path, ImportOptions(dry_run=True, force=force))


@pytest.mark.parametrize("kind", ["as it is", "jpeg", "gamma", "color", "text", "turned to RGBA"])
def test_the_right_picture_in_any_encoding_is_accepted(
    study: Workspace, tmp_path: Path, kind: str
) -> None:
    whole = raw(study, "IM_0.png")
    gray = read_image(whole).frames[0].gray
    rgb = np.repeat(gray[..., None], 3, axis=2)
    written = rgb.copy()
    cv2.putText(written, "FL 31 mm", (300, 300), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    data = {
        "as it is": whole,
        "jpeg": encoded(gray, "JPEG", quality=10),
        "gamma": encoded(((gray / 255) ** 0.6 * 255).astype(np.uint8)),
        "color": encoded((rgb * (1.0, 0.9, 0.7)).astype(np.uint8)),
        "text": encoded(written),
        "turned to RGBA": encoded(np.dstack([rgb, np.full_like(gray, 255)])),
    }[kind]
    assert taken(study, tmp_path, data).imported == 1


def test_a_jpeg_source_with_letters_outside_the_sector_is_accepted(
    study: Workspace, tmp_path: Path
) -> None:
    for data in (
        raw(study, "IM_2.jpg"),
        encoded(read_image(raw(study, "IM_2.jpg")).frames[0].gray),
    ):
        named = {"name": "IM_2.json", "imagePath": "IM_2.jpg"}
        assert taken(study, tmp_path, data, **named).imported == 1


@pytest.mark.parametrize("quality", [None, 90, 20])
def test_another_frame_of_the_study_is_refused(
    study: Workspace, tmp_path: Path, quality: int | None
) -> None:
    other = raw(study, "IM_1.png")
    if quality:
        other = encoded(read_image(other).frames[0].gray, "JPEG", quality=quality)
    summary = taken(study, tmp_path, other)
    assert (summary.imported, summary.refused) == (0, {"other_picture": 1})
    expected = "correlates by" if quality else "IM_1.png"
    assert expected in summary.examples[0]
    assert taken(study, tmp_path, other, force=True).imported == 1


@pytest.mark.parametrize("what", ["mirrored", "upside down", "moved", "black", "noise"])
def test_a_changed_picture_is_refused(study: Workspace, tmp_path: Path, what: str) -> None:
    gray = read_image(raw(study, "IM_0.png")).frames[0].gray
    changed = {
        "mirrored": gray[:, ::-1],
        "upside down": gray[::-1],
        "moved": np.roll(gray, 40, axis=1),
        "black": np.zeros_like(gray),
        "noise": np.random.default_rng(0).integers(0, 255, gray.shape, np.uint8),
    }[what]
    summary = taken(study, tmp_path, encoded(np.ascontiguousarray(changed)))
    assert summary.refused == {"other_picture": 1}


def test_a_picture_of_another_size_than_stated_is_refused(study: Workspace, tmp_path: Path) -> None:
    gray = read_image(raw(study, "IM_0.png")).frames[0].gray
    summary = taken(study, tmp_path, encoded(cv2.resize(gray, (400, 300))))
    assert summary.refused == {"other_picture": 1}
    assert "300 x 400" in summary.examples[0]


@pytest.mark.parametrize("absent", [None, ""])
def test_without_a_picture_the_name_decides(
    study: Workspace, tmp_path: Path, absent: str | None
) -> None:
    assert taken(study, tmp_path, absent).imported == 1


def huge_png() -> bytes:
    """60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "broken",
    ["%%%not base64%%%", "AAAA", 17, ["x"], base64.b64encode(b"%PDF-1.4").decode(), huge_png()],
    ids=["no base64", "too short", "a number", "a list", "a document", "huge"],
)
def test_a_picture_that_cannot_be_read_is_refused_and_said(
    study: Workspace, tmp_path: Path, broken: Any
) -> None:
    summary = taken(study, tmp_path, broken)
    assert (summary.imported, summary.refused) == (0, {"broken": 1})
    assert "imageData" in summary.examples[0] and "null" in summary.examples[0]
    assert taken(study, tmp_path, broken, force=True).imported == 1


def test_a_truncated_picture_is_refused(study: Workspace, tmp_path: Path) -> None:
    assert taken(study, tmp_path, raw(study, "IM_0.png")[:5000]).refused == {"broken": 1}


def test_an_exported_frame_is_compared_with_the_stored_one(
    study: Workspace, tmp_path: Path
) -> None:
    """Somebody drew on the frames of the workspace, which are named by their image ids."""
    frames = study.accepted_images().sort_values("height")
    files = [study.root / str(file) for file in frames["file"]]
    first = frames.iloc[0]
    size = {"imageHeight": int(first["height"]), "imageWidth": int(first["width"])}
    named = size | {"imagePath": files[0].name}
    assert taken(study, tmp_path, files[0].read_bytes(), **named).imported == 1
    other = cv2.resize(read_stored(files[1]), (size["imageWidth"], size["imageHeight"]))
    assert taken(study, tmp_path, encoded(other), **named).refused == {"other_picture": 1}


def test_the_right_file_of_a_frame_is_used_though_another_holds_a_wrong_picture(
    study: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    labelme(folder, raw(study, "IM_0.png"))
    labelme(folder, raw(study, "IM_1.png"), "IM_0_label.json", imagePath="IM_0_label.png")
    summary = import_masks(study, folder)
    assert (summary.imported, summary.refused) == (1, {"other_picture": 1})
