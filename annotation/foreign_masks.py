"""What the readers of masks made elsewhere return.

Masks, refusals, and the names of all pictures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.atomic import read_regular
from sono.curation.core.errors import SonoError
from sono.curation.readers.source import DEFAULT_LIMITS

Size = tuple[int, int]  # height, width

MAX_PIXELS = DEFAULT_LIMITS.max_pixels
MAX_BYTES = 1 << 30  # of a JSON file, which holds pictures in LabelMe's case


@dataclass(frozen=True)
class Picture:
    """Which picture a mask was drawn on, as its file says.

    `name` is a path, or only its end, below `folder`: the folder in use, which can agree with the
    path of a frame but cannot contradict it. Two `entry` values are two pictures, whatever their
    names. `own_name` is the name of a LabelMe file, `file` the mask's own picture.
    """

    name: str
    entry: str
    folder: str = ""
    own_name: str = ""
    file: Path | None = None


class ForeignMask(NamedTuple):
    """A mask as another tool wrote it.

    `size` is (height, width) of its picture, None where the file does not say; `read` draws it for
    a size. `source` is "import", or "box" for a box; `exported` holds the attributes that `sono
    masks export` wrote. `nested`: one of several classes of a picture, which may lie in its holes.
    """

    picture: Picture
    label: str
    size: Size | None
    place: str
    read: Callable[[Size], NDArray[np.bool_]]
    source: str = "import"
    exported: Mapping[str, Any] = {}
    nested: bool = False


class RefusedError(Exception):
    """A picture or mask that is not used, with the reason's code."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


class Refusal(NamedTuple):
    """Why an entry is not used; `place` and `detail` may hold names and are never stored."""

    reason: str
    place: str
    detail: str = ""


@dataclass
class Found:
    """What a file or folder holds.

    Masks, refused entries, all pictures (also those without a mask), and remarks.
    """

    masks: list[ForeignMask] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unnamed: dict[int, int] = field(default_factory=dict)  # pixels of values that no --value names
    # files by the value or color of their one structure
    paints: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, reason: str, place: object, detail: str = "") -> None:
        """Note an entry that is not used."""
        self.refused.append(Refusal(reason, str(place), detail))


def read_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    SonoError for anything else, without waiting for a pipe.
    """
    try:
        return read_regular(path, limit)
    except OSError as error:
        raise SonoError(
            f"{path}: cannot be read ({error.strerror}); check its path and permissions"
        ) from error


def check_size(size: Size) -> None:
    """SonoError for a picture without pixels or with more than sono reads."""
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise SonoError(
            f"a picture of {size[0]} x {size[1]} pixels (height x width) cannot be; export it again"
        )
