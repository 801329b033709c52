"""Masks of stored crops in the pixels of the file that a frame comes from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sono.curation.core.arrays import Mask
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import crop_box, resampled_mask, shown_size


def source_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the frame in its file; raises SonoError if they are unknown."""
    if pd.isna(image["source_height"]) or pd.isna(image["crop_x0"]):
        raise SonoError(
            f"frame {image['image_id']}: its place in the source frame is unknown; export with "
            "--coordinates stored"
        )
    if pd.isna(image["file_height"]):
        return shown_size(image)
    return int(image["file_height"]), int(image["file_width"])


def in_source(mask: Mask, image: Mapping[str, Any]) -> Mask:
    """A mask [h, w] of the stored crop as a mask [H, W] of the frame in its file.

    Where the pixels of the file are not square, each gets the nearest pixel of the mask.
    """
    whole = np.zeros(shown_size(image), np.bool_)
    x0, y0, x1, y1 = crop_box(image)
    whole[y0:y1, x0:x1] = mask
    size = source_size(image)
    return whole if whole.shape == size else resampled_mask(whole, size)


def source_spacing(image: Mapping[str, Any]) -> tuple[float, float] | None:
    """Spacing of rows and columns in mm of the pixels in the file; None if unknown."""
    row, column = image["row_spacing_mm"], image["col_spacing_mm"]
    if pd.isna(row) or pd.isna(column):
        return None
    (height, width), (rows, columns) = shown_size(image), source_size(image)
    return row * height / rows, column * width / columns
