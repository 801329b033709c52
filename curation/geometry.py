"""The one geometry: a centred zero padding to a square, then a resize. Every stage uses these functions."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def pad_to_square(picture: NDArray[Scalar]) -> NDArray[Scalar]:
    """Pad `picture` [H, W] or [H, W, C] with zeros to [S, S, ...], S = max(H, W); an odd pixel goes below or right."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    margins = [(top, side - height - top), (left, side - width - left)] + [(0, 0)] * (picture.ndim - 2)
    return np.pad(picture, margins)


def shrink(gray: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """A frame [H, W] at [height, width] by area averaging; by halves first, which is many times quicker."""
    while gray.shape[0] >= 2 * height and gray.shape[1] >= 2 * width:
        rows, columns = gray.shape[0] // 2, gray.shape[1] // 2
        gray = np.asarray(
            cv2.resize(gray[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA), np.uint8
        )
    return np.asarray(cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def letterbox(gray: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A frame [H, W] as a square [side, side]: area averaging when it shrinks, bicubic when it grows."""
    square = pad_to_square(gray)
    how = cv2.INTER_AREA if square.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=how), np.uint8)


def letterbox_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """A mask [H, W] in the geometry of `letterbox`; a target pixel is inside when half of it is."""
    square = pad_to_square(mask).astype(np.float32)
    how = cv2.INTER_AREA if square.shape[0] > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side, side), interpolation=how) >= 0.5)
