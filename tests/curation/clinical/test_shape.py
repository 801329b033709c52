"""The stored frame of a file is upright and has square pixels.

Therefore masks fit it, and lengths are correct in mm.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image

from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.curation.core.engine import Engine
from sono.curation.core.frame_files import read_stored
from sono.curation.core.rle import decode
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.anatomy import draw_plane, visible_masks
from sono.curation.phantom.frames import LOOKS, PROBES
from sono.curation.phantom.physics import render
from sono.curation.qc import QcOptions, run_qc

ALONE = Engine(jobs=1)


def head(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A frame [H, W] of the phantom, the mask of its head, and mm a pixel."""
    random = np.random.default_rng(seed)
    drawn = draw_plane("transthalamic", PROBES["A"], 154, random)
    picture = render(drawn.scene, PROBES["A"], LOOKS["A"], random)
    return (
        picture,
        visible_masks(drawn.scene, "transthalamic", PROBES["A"])["fetal head"],
        drawn.spacing_mm,
    )


def extent_mm(mask: np.ndarray, down: float, across: float) -> tuple[float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (rows[-1] - rows[0] + 1) * down, (columns[-1] - columns[0] + 1) * across


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir()
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def graded(folder: Path, records: str = "") -> Workspace:
    study = Workspace.create(folder / "study")
    table = None
    if records:
        table = folder / "records.csv"
        table.write_text(records)
    run_qc(study, QcOptions(folder / "raw", table), ALONE)
    return study


@pytest.mark.parametrize("aspect", [2.0, 0.5, 1.25])
def test_a_head_measures_the_same_in_mm_whatever_the_shape_of_its_pixels(
    tmp_path: Path, aspect: float
) -> None:
    picture, mask, mm = head(1)
    rows, columns = (round(600 / aspect), 800) if aspect > 1 else (600, round(800 * aspect))
    flat = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    flat_mask = cv2.resize(mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST)
    spacing = [mm * 600 / rows, mm * 800 / columns]
    write_dicom(
        tmp_path / "raw" / "scan.dcm", flat, PixelSpacing=[f"{value:.8f}" for value in spacing]
    )
    write_mask(tmp_path / "masks" / "scan.png", flat_mask)
    study = graded(tmp_path)
    row = study.accepted_images().iloc[0]
    assert "resampled" in row["reasons"] and row["row_spacing_mm"] == pytest.approx(
        row["col_spacing_mm"], rel=0.01
    )
    assert import_masks(study, tmp_path / "masks", ImportOptions("fetal head")).imported == 1
    kept = study.masks().iloc[0]
    found = extent_mm(
        decode(kept["counts"], kept["height"], kept["width"]),
        row["row_spacing_mm"],
        row["col_spacing_mm"],
    )
    assert found == pytest.approx(extent_mm(mask, mm, mm), rel=0.02)


def test_a_records_spacing_is_that_of_the_pixels_in_the_file(tmp_path: Path) -> None:
    flat = cv2.resize(head(1)[0], (800, 300), interpolation=cv2.INTER_AREA)
    write_dicom(tmp_path / "raw" / "flat.dcm", flat, PixelAspectRatio=["2", "1"])
    write_dicom(tmp_path / "raw" / "even.dcm", head(2)[0])
    table = "file,row_spacing,col_spacing\nflat.dcm,0.4,0.2\neven.dcm,0.4,0.2\n"
    study = graded(tmp_path, table)
    images = study.accepted_images().sort_values("file_height", na_position="last")
    assert images[["row_spacing_mm", "col_spacing_mm"]].to_numpy().tolist() == [
        [0.2, 0.2],
        [0.4, 0.2],
    ]
    assert ["not_square" in codes for codes in images["reasons"]] == [False, True]


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_drawn_on_the_displayed_picture_fits_a_turned_one(
    tmp_path: Path, orientation: int
) -> None:
    picture, mask, _ = head(3)
    back = {3: lambda shown: np.rot90(shown, 2), 6: np.rot90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "raw").mkdir()
    Image.fromarray(np.ascontiguousarray(back(picture))).save(
        tmp_path / "raw" / "phone.png", exif=exif
    )
    write_mask(tmp_path / "masks" / "phone.png", mask)
    study = graded(tmp_path)
    row = study.accepted_images().iloc[0]
    assert import_masks(study, tmp_path / "masks", ImportOptions("fetal head")).imported == 1
    kept = study.masks().iloc[0]
    box = slice(row["crop_y0"], row["crop_y1"]), slice(row["crop_x0"], row["crop_x1"])
    assert np.array_equal(decode(kept["counts"], kept["height"], kept["width"]), mask[box])
    inside = read_stored(study.root / row["file"])[mask[box]]
    assert np.abs(inside.astype(int) - picture[mask]).mean() < 1
