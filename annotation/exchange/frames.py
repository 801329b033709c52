"""What the writers of mask files get: frames with their masks, and where losses are recorded."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sono.annotation.exchange.foreign_masks import Size
from sono.curation.core.arrays import Mask

DESCRIPTION = "sono: fetal ultrasound frames and masks"
# of the masks table; `sono masks import` takes them back
ATTRIBUTES = (
    "mask_id", "state", "source", "model_hash", "prompt", "score", "stability", "reviewer",
    "reviewed_at",
)  # fmt: skip
NUMBERS = ("score", "stability")


@dataclass(frozen=True)
class ExportMask:
    """A mask [H, W] to be written, with its attributes of the masks table."""

    mask_id: str
    structure: str
    pixels: Mask
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class ExportFrame:
    """A frame and its masks, in the pixels that are exported.

    `name` is the file of the frame, with folders; `stem` the name of its mask files, without
    suffix. `spacing_mm` is that of rows and columns, None if unknown.
    """

    name: str
    stem: str
    size: Size
    masks: tuple[ExportMask, ...]
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True)
class Loss:
    """A mask that a format cannot hold exactly; `iou` compares what is read back with it."""

    mask_id: str
    structure: str
    iou: float
    what: str

    def __str__(self) -> str:
        iou = math.floor(self.iou * 1e4) / 1e4  # so that a loss never reads as none
        return f"mask {self.mask_id} ({self.structure}): IoU {iou:.4f}, {self.what}"


@dataclass
class Content:
    """All frames of an export, decoded one at a time, and the structures of their masks.

    Writers add to `losses` and `remarks`.
    """

    frames: Iterable[ExportFrame]
    structures: tuple[str, ...]
    losses: list[Loss] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lose(self, mask: ExportMask, iou: float, what: str) -> None:
        self.losses.append(Loss(mask.mask_id, mask.structure, iou, what))


def place_of(folder: Path, stem: str, suffix: str) -> Path:
    """The path of a file below `folder`; its folders are made."""
    path = folder / PurePosixPath(stem + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def as_texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes for formats that hold texts; missing ones are left out."""
    return {name: str(value) for name, value in attributes.items() if value is not None}


def from_texts(texts: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of `as_texts`; a number that is none becomes None."""
    found: dict[str, Any] = {name: texts[name] for name in ATTRIBUTES if texts.get(name)}
    for name in NUMBERS:
        try:
            found[name] = float(found[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            found[name] = None
    return found


def json_text(content: Any) -> str:
    """`content` as JSON: the same content gives the same text."""
    return json.dumps(content, indent=1) + "\n"
