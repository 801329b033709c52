"""Masks that were exported mirrored or turned are reported where there are enough of them."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from mask_studies import frame_row

from sono.annotation.masks import mask_row, mask_table
from sono.annotation.turned_masks import MIN_MASKS, fit_of, turned_masks
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.tables import Row

SIZE, CROP = (300, 400), (20, 10, 390, 290)  # of the source; x0, y0, x1, y1
TURNS = {
    "mirrored left to right": np.s_[:, ::-1],
    "upside down": np.s_[::-1],
    "turned by 180 degrees": np.s_[::-1, ::-1],
}


def drawn(
    folder: Path, count: int, turn: str = "", where: tuple[int, int] = (150, 120), spread: int = 9
) -> tuple[pd.DataFrame, dict[str, Row]]:
    """Frames of a bright ring in speckle, and masks of the rings, turned."""
    x0, y0, x1, y1 = CROP
    rows: dict[str, Row] = {}
    masks = []
    for number in range(count):
        random = np.random.default_rng(number)
        frame = random.rayleigh(40, SIZE).clip(1, 200).astype(np.uint8)
        ring = np.zeros(SIZE, np.uint8)
        left, down = (int(step) for step in random.integers(-spread, spread + 1, 2))
        middle = (where[0] + left, where[1] + down)
        cv2.ellipse(frame, middle, (70, 50), 20, 0, 360, 220, 4)
        cv2.ellipse(ring, middle, (70, 50), 20, 0, 360, 1, -1)
        crop = frame[y0:y1, x0:x1]
        file = frame_file(f"{number:016x}", crop)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(encode_png(np.ascontiguousarray(crop)))
        box = {"crop_x0": x0, "crop_y0": y0, "crop_x1": x1, "crop_y1": y1}
        sizes = {"source_height": SIZE[0], "source_width": SIZE[1], "file": file}
        row = frame_row(number, height=y1 - y0, width=x1 - x0, **sizes, **box)
        mask = ring[TURNS[turn]] if turn else ring
        rows[str(row["image_id"])] = row
        masks.append(mask_row(row, mask[y0:y1, x0:x1] > 0, "fetal head", "import"))
    return mask_table(masks), rows


@pytest.mark.parametrize("turn", TURNS)
def test_turned_masks_are_reported_with_the_way_they_were_turned(tmp_path: Path, turn: str) -> None:
    masks, rows = drawn(tmp_path, MIN_MASKS, turn)
    (message,) = turned_masks(masks, rows, tmp_path)
    assert f"{MIN_MASKS} of {MIN_MASKS} masks" in message and turn in message
    assert "sono masks overlays" in message


def test_right_masks_few_masks_and_symmetric_ones_are_not_reported(tmp_path: Path) -> None:
    assert turned_masks(*drawn(tmp_path, MIN_MASKS), tmp_path) == []
    assert turned_masks(*drawn(tmp_path, MIN_MASKS - 1, "upside down"), tmp_path) == []
    symmetric = drawn(tmp_path, MIN_MASKS, "turned by 180 degrees", (199, 149), 0)
    assert turned_masks(*symmetric, tmp_path) == []


def test_frames_whose_pictures_are_missing_are_left_out(tmp_path: Path) -> None:
    masks, rows = drawn(tmp_path, MIN_MASKS, "upside down")
    (tmp_path / str(rows[f"{0:016x}"]["file"])).unlink()
    assert turned_masks(masks, rows, tmp_path) == []


def test_the_fit_is_the_contrast_of_a_line_or_of_an_area() -> None:
    gray = np.full((150, 150), 50, np.uint8)
    mask = np.zeros((150, 150), np.bool_)
    mask[50:100, 50:100] = True
    assert fit_of(mask, gray) == pytest.approx(0, abs=0.1)
    gray[mask] = 150
    assert fit_of(mask, gray) == pytest.approx(50, abs=5)
    assert fit_of(~mask & False, gray) is None
    assert fit_of(mask, np.zeros_like(gray)) is None
