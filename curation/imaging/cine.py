"""Which frames of a cine loop are analyzed, and which of them repeat an earlier frame."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydantic import Field, field_validator

from sono.curation.core.arrays import Box, Gray
from sono.curation.core.config import Config
from sono.curation.core.geometry import shrink

SMALL_SIDE = 64


class CineConfig(Config):
    """Frames of multi-frame files: section `[qc.cine]` of `sono.toml`.

    `frames` is "distinct" (those that differ), "all", "first" or "every:N". `min_change` is one
    minus the correlation of two frames, 64 pixels wide, below which the later one repeats the
    earlier. Noise, compression and gain change real fetal frames by up to 0.002, a movement over
    0.5 % of the picture's width by 0.009 to 0.022 and over 1 % by 0.034 to 0.09; neighboring frames
    in a real cine of a beating heart differ by 0.006 to 0.03.
    """

    frames: str = "distinct"
    min_change: float = Field(default=0.03, ge=0, le=2)

    @field_validator("frames")
    @classmethod
    def _known(cls, frames: str) -> str:
        if not re.fullmatch(r"all|first|distinct|every:[1-9][0-9]{0,5}", frames):
            raise ValueError("give all, first, distinct or every:N, as in every:5")
        return frames


@dataclass(frozen=True)
class Distinct:
    """A frame that later ones are compared with: index, box of its sector, and a small copy."""

    index: int
    shape: tuple[int, ...]
    box: Box
    small: Gray  # [64, 64]

    @classmethod
    def of(cls, index: int, gray: Gray, box: Box | None) -> "Distinct":
        """The frame `gray` [H, W] with its sector in the half-open `box`; None means all of it."""
        place = box or (0, 0, gray.shape[1], gray.shape[0])
        return cls(index, gray.shape, place, _small(gray, place))

    def change(self, gray: Gray) -> float:
        """How much a later frame [H, W] of the same cine differs, from 0 to 2.

        0 means the same apart from gain. A page of another size differs as much as possible.
        """
        if gray.shape != self.shape:
            return 2.0
        return 1.0 - _correlation(self.small, _small(gray, self.box))


def chosen(frames: str, count: int) -> Iterable[int]:
    """The indices of those of `count` frames that the option `frames` selects."""
    if frames == "first":
        return range(min(1, count))
    return range(0, count, int(frames.partition(":")[2] or 1))


def _small(gray: Gray, box: Box) -> Gray:
    x0, y0, x1, y1 = box
    return shrink(gray[y0:y1, x0:x1], SMALL_SIDE, SMALL_SIDE)


def _correlation(one: Gray, other: Gray) -> float:
    """The normalized correlation of two pictures.

    It is 1 for two equal pictures, even of one tone, and 0 if only one is of one tone.
    """
    a, b = (picture.astype(np.float64) - picture.mean() for picture in (one, other))
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else float(np.array_equal(one, other))
