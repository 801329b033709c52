"""Read a file for a prediction: its frames as `sono qc` crops them, and the mask of each.

Runs in a worker process. Bad content gives a reason and never an exception.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sono.annotation.proposers import propose_each_kind
from sono.curation.core.arrays import Mask
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import letterbox, letterbox_mask
from sono.curation.core.reasons import REASONS, status_of
from sono.curation.imaging.analysis import Examined, examine
from sono.curation.imaging.cine import chosen
from sono.curation.imaging.quality import QualityConfig
from sono.curation.readers.files import Frame, read_source

CINE_FRAMES = 16  # of a file, spread over it
CARD_SIDE = 256  # pixels of a frame on the picture
NOT_READ = "not read"


@dataclass(frozen=True)
class ReadTask:
    """What a worker needs besides the path.

    `mask` has the size of the frame or of its crop; `propose` outlines each frame without a label.
    """

    config: QualityConfig
    side: int
    mask: Mask | None = None
    propose: bool = False
    draw: bool = False


@dataclass(frozen=True)
class Card:
    """A frame to draw [h, w], its mask, and its sector."""

    gray: NDArray[np.uint8]
    mask: Mask | None
    sector: Mask


@dataclass(frozen=True)
class Reading:
    """The frames of a file in the model's square [n, S, S], and their masks of the same shape.

    `shown` says what each mask is. `card` is None for a frame that a person must check first.
    Without frames, `message` says why.
    """

    path: bytes
    frames: int
    status: str
    reasons: tuple[str, ...]
    squares: NDArray[np.uint8]
    masks: Mask
    shown: tuple[str, ...] = ()
    card: Card | None = None
    message: str = ""


def read_file(task: ReadTask, path: bytes) -> Reading:
    """Read, crop and outline the frames of one file."""
    source = read_source(path)
    count = len(source.frames)
    if not count:
        return unread(task, path, source.codes, source.message or "")
    numbers = list(chosen(task.config.cine.frames, count))
    found = [_examined(source.frames[number], source.codes, task) for number in spread(numbers)]
    usable = [(frame, each) for frame, each in found if each.crop is not None]
    codes = tuple(dict.fromkeys(code for _, each in usable or found for code in each.codes))
    if not usable:
        return unread(task, path, codes, "", count)
    try:
        masks, shown = zip(*(_mask(task, frame, each) for frame, each in usable), strict=True)
    except SonoError as error:
        return unread(task, path, codes, str(error), count)
    crops = [each.crop for _, each in usable if each.crop is not None]
    status = status_of(codes)
    return Reading(
        path,
        count,
        status,
        codes,
        np.stack([letterbox(crop, task.side) for crop in crops]),
        np.stack([_square(mask, task.side) for mask in masks]),
        shown,
        _card(usable[0][1], masks[0]) if task.draw and status != "quarantined" else None,
    )


def _card(found: Examined, mask: Mask | None) -> Card:
    assert found.crop is not None and found.sector is not None
    x0, y0, x1, y1 = found.sector.box
    return Card(found.crop, mask, found.sector.inside[y0:y1, x0:x1])


def unread(
    task: ReadTask, path: bytes, codes: Sequence[str], message: str, frames: int = 0
) -> Reading:
    """A file without a frame that can be predicted, and why."""
    reasons = tuple(codes) or ("unreadable",)
    none = np.zeros((0, task.side, task.side), np.bool_)
    words = message or "; ".join(REASONS[code].meaning for code in reasons if code in REASONS)
    return Reading(path, frames, NOT_READ, reasons, none.astype(np.uint8), none, message=words)


def crashed(task: ReadTask, path: bytes) -> Reading:
    """The reading of a file whose decoder ended the worker."""
    return unread(task, path, ("worker_died",), "")


def spread(numbers: Sequence[int]) -> list[int]:
    """At most CINE_FRAMES of the numbers of frames, from the first to the last."""
    places = np.linspace(0, len(numbers) - 1, min(CINE_FRAMES, len(numbers)))
    return [numbers[place] for place in dict.fromkeys(places.round().astype(int).tolist())]


def read_mask(path: Path) -> Mask:
    """The mask in a picture: all that is not black.

    Raises SonoError if there is no picture, or nothing is marked.
    """
    source = read_source(os.fsencode(path))
    if len(source.frames) != 1:
        raise SonoError(f"{path}: {source.message or 'not one picture'}; give a PNG with one mask")
    mask = np.asarray(source.frames[0].gray > 0)
    if not mask.any():
        raise SonoError(f"{path}: marks nothing; give a picture that is not black in the region")
    return mask


def _examined(frame: Frame, codes: tuple[str, ...], task: ReadTask) -> tuple[Frame, Examined]:
    return frame, examine(frame, codes, task.config)


def _mask(task: ReadTask, frame: Frame, found: Examined) -> tuple[Mask | None, str]:
    """The mask of a crop [h, w], None for the whole square, and what it is."""
    assert found.crop is not None and found.sector is not None
    if task.mask is not None:
        return _fitted(task.mask, frame, found), "the given mask"
    best = next(iter(propose_each_kind(found.crop)), None) if task.propose else None
    if best is None or not best.mask.any():
        return None, "no outline found" if task.propose else ""
    return best.mask, f"outline of {best.structure}"


def _fitted(mask: Mask, frame: Frame, found: Examined) -> Mask:
    """The given mask in the crop of its frame."""
    assert found.crop is not None and found.sector is not None
    x0, y0, x1, y1 = found.sector.box
    inside = mask if mask.shape == found.crop.shape else mask[y0:y1, x0:x1]
    if mask.shape not in (found.crop.shape, frame.gray.shape):
        raise SonoError(
            f"the mask has {_size(mask)} pixels, the picture {_size(frame.gray)} and its sector "
            f"{_size(found.crop)} (height x width); give a mask of one of these sizes"
        )
    if not inside.any():
        raise SonoError("the mask marks nothing inside the ultrasound sector")
    return inside


def _square(mask: Mask | None, side: int) -> Mask:
    return np.ones((side, side), np.bool_) if mask is None else letterbox_mask(mask, side)


def _size(picture: NDArray[np.generic]) -> str:
    return f"{picture.shape[0]} x {picture.shape[1]}"
