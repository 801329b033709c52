"""A perceptual hash of the sector of a frame.

Copies share its 256 bits, whatever their gain, size or compression.
"""

import cv2
import numpy as np

from sono.curation.core.arrays import Gray
from sono.curation.core.geometry import shrink
from sono.curation.imaging.sector import Sector, crop_to_sector

SMALL_SIDE = 64
HASH_SIDE = 16  # 16 x 16 coefficients, a bit each


def perceptual_hash(gray: Gray, sector: Sector) -> str:
    """256 bits as 64 hexadecimal digits of the source frame `gray` [H, W], zero outside its sector.

    The bits are the signs of the cosine coefficients 1 to 16 in both directions, which gain,
    offset, size, aspect and compression rarely change. The crop is put back into its frame first,
    so a side that is found in one copy and missed in another moves nothing.
    """
    picture = small_frame(crop_to_sector(gray, sector), sector.box, gray.shape)
    coefficients = cv2.dct(np.sqrt(picture.astype(np.float32)))[
        1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1
    ]
    return np.packbits(coefficients > 0).tobytes().hex()


def small_frame(crop: Gray, box: tuple[int, int, int, int], source_shape: tuple[int, ...]) -> Gray:
    """The stored crop at its place in the source frame [H, W], reduced to a square [64, 64]."""
    x0, y0, x1, y1 = box
    frame = np.zeros(source_shape, np.uint8)
    frame[y0:y1, x0:x1] = crop
    return shrink(frame, SMALL_SIDE, SMALL_SIDE)
