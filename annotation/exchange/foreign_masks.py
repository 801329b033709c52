"""What the readers of external masks return: masks, refusals and the names of pictures."""

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sono.curation.core.arrays import Gray
from sono.curation.core.atomic import read_regular
from sono.curation.core.errors import SonoError
from sono.curation.readers.source import DEFAULT_LIMITS

Size = tuple[int, int]  # height, width

MAX_WHY = 160  # characters of the error of a library
MAX_PIXELS = DEFAULT_LIMITS.max_pixels
MAX_BYTES = 1 << 30  # of a JSON file, which holds pictures in LabelMe's case
# what Python and the libraries raise for a damaged entry; a program error is not among them
DAMAGED = (
    ArithmeticError, BadZipFile, EOFError, LookupError, NotImplementedError, OSError,
    RecursionError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError,
    lzma.LZMAError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """The picture that a mask was drawn on, according to its file.

    `name` is a path, or only its end, below `folder`: the folder in use, which can agree with the
    path of a frame but cannot contradict it. Two `entry` values are two pictures, even if their
    names are equal. `own_name` is the name of a LabelMe file, `file` the mask's own picture.
    `embedded` reads the picture [H, W] that a LabelMe file of this `size` (height, width) holds.
    """

    name: str
    entry: str
    folder: str = ""
    own_name: str = ""
    file: Path | None = None
    size: Size | None = None
    embedded: Callable[[], Gray] | None = None


class ForeignMask(NamedTuple):
    """A mask as another tool wrote it.

    `size` is (height, width) of its picture, or None if the file does not state it; `read` draws
    the mask [H, W] for a size. `source` is "import", or "box" for a box; `exported` holds the
    attributes that `sono masks export` wrote. `nested`: one of several classes of a picture, which
    may lie in its holes.
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
    """The contents of a file or folder: masks, refused entries, pictures and messages.

    `pictures` includes those without a mask.
    """

    masks: list[ForeignMask] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unnamed: dict[int, int] = field(default_factory=dict)  # pixels of values that no --value names
    # files by the value or color of their one structure
    paints: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, reason: str, place: object, detail: str = "") -> None:
        """Add an entry that is not used."""
        self.refused.append(Refusal(reason, str(place), detail))


def read_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises SonoError for anything else; a pipe is not waited for.
    """
    try:
        return read_regular(path, limit)
    except OSError as error:
        raise SonoError(
            f"{path}: cannot be read ({error.strerror}); check its path and permissions"
        ) from error


@contextmanager
def reading(place: object = None) -> Iterator[None]:
    """Raise SonoError, which names `place` if it is given, for an entry that is damaged."""
    try:
        yield
    except DAMAGED as error:
        where = "" if place is None else f"{place}: "
        why = " ".join(str(error).split())[:MAX_WHY] or type(error).__name__
        raise SonoError(f"{where}damaged ({why}); export it again") from error


def check_size(size: Size) -> None:
    """Raise SonoError for a picture without pixels or with more than MAX_PIXELS."""
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise SonoError(
            f"a picture cannot have {size[0]} x {size[1]} pixels (height x width); export it again"
        )
