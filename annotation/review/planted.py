"""Wrong masks among the proposals, which show whether a reviewer looks before accepting.

Which masks get one follows from the study and the mask, not from chance, so a review that is
started again shows the same. The page cannot know it, because it depends on the study's key check.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.annotation.mask_quality import looks_tiny
from sono.annotation.masks import dice, mask_row, pixels
from sono.annotation.review.decisions import Row
from sono.annotation.review.verdicts import UNDECIDED
from sono.curation.core.atomic import sha256
from sono.curation.core.errors import SonoError

LEAST = 100  # pixels of a mask that can stand for a wrong one
WRONG = 0.6  # a planted mask has at most this Dice with the proposal in whose place it stands
TRIES = 8
ZOOMS = (0.45, 0.55, 1.7, 2.0)


def draw(seed: str, purpose: str, mask_id: str) -> float:
    """A number in 0..1 that is fixed for a mask of a study."""
    return int(sha256(f"{seed}\0{purpose}\0{mask_id}".encode())[:12], 16) / 16**12


def planted_key(seed: str, mask_id: str) -> str:
    """The id under which the log has the wrong mask in the place of a mask."""
    return sha256(f"{seed}\0planted key\0{mask_id}".encode())[:16]


def planted_row(seed: str, host: Row, others: Sequence[Row]) -> dict[str, Any]:
    """A wrong mask of the structure of `host`, as a row of the masks table.

    It is the mask of another structure of the frame, or that of `host` moved or scaled. Raises
    SonoError for a `host` of fewer than LEAST pixels of which no such mask can be made.
    """
    own = pixels(host)
    for wrong in _wrong_masks(seed, host, own, others):
        if not looks_tiny(wrong) and dice(wrong, own) <= WRONG:
            made = mask_row(host, wrong, str(host["structure"]), str(host["source"]))
            return {**host, **made, **UNDECIDED}
    raise SonoError(f"mask {host['mask_id']}: no wrong mask can be made of it")


def _wrong_masks(
    seed: str, host: Row, own: NDArray[np.bool_], others: Sequence[Row]
) -> Iterator[NDArray[np.bool_]]:
    key = str(host["mask_id"])
    foreign = [one for one in others if one["structure"] != host["structure"]]
    if foreign and draw(seed, "swap", key) < 0.5:
        yield pixels(foreign[int(draw(seed, "which", key) * len(foreign))])
    for number in range(TRIES):
        turn = 2 * np.pi * draw(seed, f"turn {number}", key)
        if (draw(seed, f"way {number}", key)) < 0.5:
            shift = (np.cos(turn), np.sin(turn))
            yield _moved(host, own, 1.0, (shift[0] * 0.5, shift[1] * 0.5))
        else:
            zoom = ZOOMS[int(draw(seed, f"zoom {number}", key) * len(ZOOMS))]
            yield _moved(host, own, zoom, (0.1 * np.cos(turn), 0.1 * np.sin(turn)))
    for zoom in (ZOOMS[0], ZOOMS[-1]):  # one of them is always wrong enough
        yield _moved(host, own, zoom, (0, 0))


def _moved(
    host: Mapping[str, Any], own: NDArray[np.bool_], zoom: float, shift: tuple[float, float]
) -> NDArray[np.bool_]:
    """`own` scaled around its box's center and moved by parts of its box's size, in the frame."""
    width, height = int(host["box_width"]), int(host["box_height"])
    x, y = host["box_x"] + width / 2, host["box_y"] + height / 2
    matrix = np.array(
        [
            [zoom, 0, (1 - zoom) * x + shift[0] * width],
            [0, zoom, (1 - zoom) * y + shift[1] * height],
        ]
    )
    drawn = cv2.warpAffine(own.astype(np.uint8), matrix, own.shape[::-1], flags=cv2.INTER_NEAREST)
    return drawn.astype(np.bool_)
