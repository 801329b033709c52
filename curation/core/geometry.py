"""The one geometry: upright, square pixels, centered zero padding to a square, then a resize."""

from collections.abc import Mapping
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Box

Scalar = TypeVar("Scalar", bound=np.generic)

SQUARE_TOLERANCE = 0.01  # relative; machines round the spacing of the two axes on their own


def crop_box(image: Mapping[str, Any]) -> Box:
    """The half-open box x0, y0, x1, y1 of a row of the images table, in its frame as shown."""
    x0, y0, x1, y1 = (int(image[name]) for name in ("crop_x0", "crop_y0", "crop_x1", "crop_y1"))
    return x0, y0, x1, y1


def shown_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of a frame with square pixels, before it was cropped."""
    return int(image["source_height"]), int(image["source_width"])


def turned(picture: NDArray[Scalar], orientation: int) -> NDArray[Scalar]:
    """`picture` [H, W] or [H, W, C] turned as the EXIF tag `orientation` asks.

    Orientations are 1 to 8; other values count as 1.
    """
    if orientation in (5, 6, 7, 8):  # these exchange rows and columns
        picture = picture.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def is_square(aspect: float) -> bool:
    """Whether pixels with height / width `aspect` count as square."""
    return abs(aspect - 1) <= SQUARE_TOLERANCE


def square_size(rows: int, columns: int, aspect: float, max_pixels: int) -> tuple[int, int]:
    """Rows and columns after pixels of height / width `aspect` have become square.

    The axis with the coarser pixels grows, so that no detail is lost; if that gives more than
    `max_pixels`, the other axis shrinks instead.
    """
    if is_square(aspect):
        return rows, columns
    grown = (round(rows * aspect), columns) if aspect > 1 else (rows, round(columns / aspect))
    if grown[0] * grown[1] <= max_pixels:
        return grown
    return (rows, round(columns / aspect)) if aspect > 1 else (round(rows * aspect), columns)


def resampled(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`picture` [H, W] or [H, W, C] resized to `size` (rows, columns).

    Uses bicubic interpolation to enlarge and area averaging to reduce.
    """
    if picture.shape[:2] == size:
        return picture
    how = (
        cv2.INTER_CUBIC
        if size[0] * size[1] > picture.shape[0] * picture.shape[1]
        else cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=how), np.uint8)


def resampled_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """`mask` [H, W] resized to `size` (rows, columns), each pixel from the nearest one."""
    near = cv2.resize(
        mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return np.asarray(near, np.bool_)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The tight box of a mask [H, W]: x, y, width, height; zeros for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, width, height


def pad_to_square(picture: NDArray[Scalar]) -> NDArray[Scalar]:
    """Pad `picture` [H, W] or [H, W, C] with zeros to [S, S, ...], S = max(H, W).

    An odd pixel is added below or to the right.
    """
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    margins = [(top, side - height - top), (left, side - width - left)] + [(0, 0)] * (
        picture.ndim - 2
    )
    return np.pad(picture, margins)


def shrink(gray: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """A frame [H, W] reduced to [height, width] by area averaging.

    It is halved first, which is many times faster.
    """
    while gray.shape[0] >= 2 * height and gray.shape[1] >= 2 * width:
        rows, columns = gray.shape[0] // 2, gray.shape[1] // 2
        gray = np.asarray(
            cv2.resize(
                gray[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA
            ),
            np.uint8,
        )
    return np.asarray(cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def letterbox(gray: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A frame [H, W] padded and resized to a square [side, side].

    Uses area averaging to reduce and bicubic interpolation to enlarge.
    """
    square = pad_to_square(gray)
    how = cv2.INTER_AREA if square.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=how), np.uint8)


def letterbox_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """A mask [H, W] in the geometry of `letterbox`; a pixel is inside if at least half of it is."""
    square = pad_to_square(mask).astype(np.float32)
    how = cv2.INTER_AREA if square.shape[0] > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side, side), interpolation=how) >= 0.5)
