"""COCO run-length encoding of masks: column-major, compressed to text, checked when decoded."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from sono.curation.core.errors import SonoError


def encode(mask: NDArray[np.bool_]) -> str:
    """`mask` [H, W] as COCO's compressed run-length string: column-major runs, zeros first."""
    counts: bytes = coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return counts.decode("ascii")


def decode(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """The mask [height, width] of a compressed COCO string.

    Raises SonoError if the string or the sum of its runs is wrong.
    """
    return from_runs(_runs(counts), height, width)


def from_runs(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask [height, width] of column-major run lengths, zeros first.

    Raises SonoError if they do not fill the mask.
    """
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise SonoError(
            f"run lengths sum to {sum(runs)}, the mask has {height} x {width} = {height * width} "
            f"pixels; "
            "export it again as COCO RLE (column-major) of this frame"
        )
    flags = np.arange(len(runs)) % 2 == 1
    return np.repeat(flags, runs).reshape(width, height).T


def _runs(counts: str) -> list[int]:
    """Run lengths from COCO's text: 5 bits per character, low bits first.

    From the fourth on, a number is the difference from the run two before.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in counts.encode("utf-8"):
        code = letter - 48
        if not 0 <= code < 64 or shift > 30:
            raise SonoError(
                f"not a COCO run-length string (character {len(runs)}: {chr(letter)!r}); export as "
                f"COCO"
            )
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise SonoError(
            "a COCO run-length string that ends inside a number; the file is truncated, export it "
            "again"
        )
    return runs
