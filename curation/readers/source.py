"""What the readers return: gray frames, private header facts and codes; shared tone conversions."""

import json
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.alive import alive
from sono.curation.core.reasons import REASONS

MIN_SIDE = 64  # pixels; smaller pictures are icons, not ultrasound
COLOR_SPREAD = 12  # gray levels; JPEG noise makes gray pixels differ by less
MAX_TEXT_BYTES = 1 << 20  # of any one text that goes into `Header.private`
MAX_TEXTS = 4096
# echo fills the range; a dead pixel or a bright caption does not set it
WINDOW_PERCENTILES = (0.1, 99.9)

# What decoders were seen to raise on broken content (measured on bad files; anything else is a
# defect of ours).
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    cv2.error,
)

Values = NDArray[Any]  # pixel values as stored, of any number type

_LATIN_RUN = re.compile(
    rb"(?:[A-Za-z0-9 ^.,'=_:-]|[\xc0-\xd6\xd8-\xf6\xf8-\xfd](?![\x7f-\xff])){4,}"
)
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WIDE_RUNS = (
    (re.compile(rb"(?:[\x20-\x7e\xc0-\xff]\0|[\x00-\x7f][\x01\x03\x04]){4,}"), "utf-16-le"),
    (re.compile(rb"(?:\0[\x20-\x7e\xc0-\xff]|[\x01\x03\x04][\x00-\x7f]){4,}"), "utf-16-be"),
)
_TEXT_RUN = re.compile(rb"(?:[\x20-\x7e]|[\xc3-\xdf][\x80-\xbf]|[\xe1-\xec][\x80-\xbf]{2}){4,}")


@dataclass(frozen=True)
class Limits:
    """Limits on one file; a file beyond them is refused."""

    max_pixels: int = 64_000_000  # a frame
    max_file_bytes: int = 2 << 30
    max_inflated_bytes: int = 512 << 20
    max_nesting: int = 64
    max_decoded_bytes: int = 16 << 30  # all frames of a file together; they are decoded one by one


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class UltrasoundRegion:
    """A region of the screen as the machine describes it (PS3.3 C.8.5.5).

    `box` is x0, y0, x1, y1 in pixels; `units` and `deltas` are those of x and y. Kinds are code
    numbers; broken values are NaN.
    """

    spatial_format: float
    data_type: float
    box: tuple[float, float, float, float]
    units: tuple[float, float]
    deltas: tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """One picture: `gray` [H, W]; `rgb` [H, W, 3] only if it has color; spacing in mm.

    `file_size` is rows and columns in the file, if pixels that are not square were resampled.
    `seconds` is the time since the first frame of the file. A frame of a cine that could not be
    decoded is black and has the code frame_corrupt.
    """

    index: int
    gray: NDArray[np.uint8]
    rgb: NDArray[np.uint8] | None
    row_spacing_mm: float | None
    col_spacing_mm: float | None
    spacing_reason: str | None
    codes: tuple[str, ...] = ()
    regions: tuple[UltrasoundRegion, ...] = ()
    file_size: tuple[int, int] | None = None
    seconds: float | None = None
    is_screen: bool = True  # of a machine, whose border shows names; False for a picture file


class LazyFrames(Sequence[Frame]):
    """`count` frames, each made by `make(index)` when it is accessed."""

    def __init__(self, count: int, make: Callable[[int], Frame]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        """Make one frame, or those of a slice."""
        if isinstance(index, slice):
            return [self[one] for one in range(self._count)[index]]
        alive(1)
        return self._make(range(self._count)[index])


@dataclass(frozen=True)
class Header:
    """Raw private facts of a file, for the vault and the privacy gate only."""

    patient: str | None = None
    study: str | None = None
    exam_date: str | None = None  # ISO
    # others that a record may contradict, by DICOM keyword
    facts: Mapping[str, str] = field(default_factory=dict)
    machine: str | None = None
    private: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()  # of these the names of patients, operators and physicians


@dataclass(frozen=True)
class ReadResult:
    """A file as read: its frames (none if nothing could be read), its codes, and one sentence.

    The frames of a DICOM file are decoded on demand, so a long cine is never in memory at once.
    """

    file_sha256: str | None
    frames: Sequence[Frame]
    codes: tuple[str, ...]
    message: str
    header: Header
    # record fields of a structured report
    report: Mapping[str, float] = field(default_factory=dict)


class UnreadableError(Exception):
    """Content that gives no frame; `fact` is a sentence without path or private value."""

    def __init__(self, code: str, fact: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.fact = fact or REASONS[code].meaning


def missing_extra(advice: str) -> UnreadableError:
    """The error for a format whose extra is not installed; `advice` says which one."""
    return UnreadableError("needs_extra", advice)


def failed(error: UnreadableError, header: Header | None = None) -> ReadResult:
    """The result for a file that gives no frame."""
    return ReadResult(None, (), (error.code,), error.fact, header or Header())


def succeeded(frames: Sequence[Frame], codes: Iterable[str], header: Header) -> ReadResult:
    """The result for a file that gives frames; its message contains the meanings of the codes."""
    once = tuple(dict.fromkeys(codes))
    return ReadResult(None, frames, once, "; ".join(REASONS[code].meaning for code in once), header)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Hide the warnings of decoders from the user.

    They quote private values, and the codes are clearer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_bytes(size: int, limits: Limits) -> None:
    """Refuse a file by its size in bytes, before it is read."""
    if size == 0:
        raise UnreadableError("empty_file")
    if size > limits.max_file_bytes:
        raise UnreadableError(
            "too_large", f"{size} bytes; the limit is {limits.max_file_bytes} bytes"
        )


def check_size(height: int, width: int, limits: Limits) -> None:
    """Refuse a frame by its declared size, before it is decoded."""
    if height < 1 or width < 1:
        raise UnreadableError("bad_value", f"the picture is declared as {width} x {height} pixels")
    if height * width > limits.max_pixels:
        raise UnreadableError(
            "too_large", f"{width} x {height} pixels; the limit is {limits.max_pixels} pixels"
        )
    if min(height, width) < MIN_SIDE:
        raise UnreadableError(
            "too_small", f"{width} x {height} pixels; a side needs at least {MIN_SIDE}"
        )


def window_of(values: Values) -> tuple[float, float]:
    """The values that become black and white: percentiles of `values`, any shape."""
    low, high = np.percentile(values, WINDOW_PERCENTILES)
    return float(low), float(high)


def to_8_bit(values: Values, low_high: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Map `low_high` (default: `window_of` the values, any shape) to 0..255, clipped."""
    low, high = window_of(values) if low_high is None else low_high
    scale = 255.0 / max(high - low, 1.0)
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(scale)
    return np.asarray(np.clip(scaled + 0.5, 0, 255), np.uint8)


def split_color(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Gray [H, W] (ITU-R BT.601 luma) of a picture, and its RGB [H, W, 3] if it has color.

    The picture is gray [H, W] or RGB [H, W, 3].
    """
    if picture.ndim == 2:
        return np.ascontiguousarray(picture), None
    rgb = np.ascontiguousarray(picture)
    red, green, blue = cv2.split(rgb)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    return gray, rgb if int(spread.max()) > COLOR_SPREAD else None


def split_luma(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """As `split_color`, for luma and two chromas [H, W, 3] (YBR_FULL); the luma is not converted.

    Colors are computed only where the chromas are far enough from their middle to make a
    difference.
    """
    luma, blue, red = cv2.split(np.ascontiguousarray(picture))
    farthest = max(
        abs(extreme - 128) for chroma in (blue, red) for extreme in cv2.minMaxLoc(chroma)[:2]
    )
    if farthest * 2 <= COLOR_SPREAD:  # two channels differ by at most 1.8 times the chromas
        return np.asarray(luma, np.uint8), None
    rgb = np.asarray(cv2.cvtColor(cv2.merge((luma, red, blue)), cv2.COLOR_YCrCb2RGB), np.uint8)
    return np.asarray(luma, np.uint8), split_color(rgb)[1]


def text_runs(content: bytes) -> list[str]:
    """Readable runs of four characters or more in `content`: ASCII, UTF-8, Latin-1 and UTF-16."""
    head = content[:MAX_TEXT_BYTES]
    found = [run.decode("utf-8", "replace") for run in _TEXT_RUN.findall(head)]
    if not head.isascii():
        found += [run.decode("latin-1") for run in _LATIN_RUN.findall(head) if _is_latin_1(run)]
    if b"\0" in head:
        found += [
            run.decode(encoding, "replace")
            for pattern, encoding in _WIDE_RUNS
            for run in pattern.findall(head)
        ]
    return [run.strip() for run in found]


def _is_latin_1(run: bytes) -> bool:
    """Whether a run has an accent and consists mostly of letters; noise does not."""
    return not run.isascii() and 3 * sum(byte in _LETTERS for byte in run) >= 2 * len(run)


def readable(raw: bytes) -> str:
    """The text in UTF-8, or in Latin-1 where it is none."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def clean_texts(texts: Iterable[str], shortest: int = 3) -> tuple[str, ...]:
    """Lines of `texts` that are long enough to search for, unique and sorted; at most MAX_TEXTS."""
    lines = {
        line.strip()
        for text in texts
        for line in re.split(r"[\x00-\x1f\x7f]+", text[:MAX_TEXT_BYTES])
    }
    return tuple(sorted(line for line in lines if len(line) >= shortest)[:MAX_TEXTS])


def header_of(text: object) -> dict[str, str]:
    """The facts of a header from the column `header_facts`, by DICOM keyword; {} for none."""
    facts: dict[str, str] = json.loads(text) if isinstance(text, str) else {}
    return facts
