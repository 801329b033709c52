"""A gzip file as a stream with random access, which keeps copies of the decoder on its way."""

import io
import zlib
from bisect import bisect_right
from pathlib import PurePath
from typing import NamedTuple, Protocol

from sono.curation.readers.source import UnreadableError

_READ_BYTES = 1 << 16
_STEP_BYTES = 1 << 20  # unpacked at a time
_POINT_BYTES = 8 << 20  # unpacked between two copies, or 1/128 of the way if that is more
_FREE_BYTES = 64 << 20  # unpacked at any ratio
_GZIP = 31  # zlib's number for a gzip header and its check sum


class Readable(Protocol):
    """What gives bytes in order."""

    def read(self, size: int = ..., /) -> bytes: ...


class Stream(Readable, Protocol):
    """What gives bytes from any place."""

    def seek(self, offset: int, whence: int = ..., /) -> int: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...


class _Point(NamedTuple):
    """The state of the decoder after `at` unpacked and `raw_at` packed bytes."""

    at: int
    raw_at: int
    decoder: "zlib._Decompress"


def gzip_texts(head: bytes) -> list[str]:
    """The name of the packed file and the comment in the header of a gzip file (RFC 1952)."""
    flags, place, texts = head[3:4] or b"\0", 10, []
    if flags[0] & 4:
        place += 2 + int.from_bytes(head[place : place + 2], "little")
    for flag in (8, 16):
        if flags[0] & flag:
            text, _, _ = head[place:].partition(b"\0")
            texts.append(
                PurePath(text.decode("latin-1")).stem if flag == 8 else text.decode("latin-1")
            )
            place += len(text) + 1
    return texts


class GzipStream(io.RawIOBase):
    """The unpacked bytes of `raw`.

    A read raises UnreadableError for damaged data, for more than `max_bytes`, and for data that are
    packed more than `max_ratio` times.
    """

    def __init__(self, raw: Stream, max_bytes: int, max_ratio: int) -> None:
        self._raw, self._max_bytes, self._max_ratio = raw, max_bytes, max_ratio
        self._points = [_Point(0, 0, zlib.decompressobj(_GZIP))]
        self._state = self._copied(self._points[0])
        self._chunk, self._start = b"", 0  # unpacked last, and its place
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place counted from the start; the end is unknown."""
        if whence != io.SEEK_SET or offset < 0:
            raise UnreadableError("corrupt")
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        if size < 0:
            raise UnreadableError("archive_limit")
        if self._at < self._start:
            self._go_back()
        parts: list[bytes] = []
        while size > 0:
            inside = self._at - self._start
            part = self._chunk[inside : inside + size]
            if part:
                parts.append(part)
                self._at += len(part)
                size -= len(part)
            elif not self._unpack():
                break
        return b"".join(parts)

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _go_back(self) -> None:
        number = bisect_right(self._points, self._at, key=lambda point: point.at) - 1
        self._state = self._copied(self._points[number])
        self._chunk, self._start = b"", self._state.at

    def _unpack(self) -> bool:
        """Replace the chunk by the next one; False at the end of the file."""
        at, raw_at, decoder = self._state
        if decoder.eof:  # another gzip file may follow, or zeros
            decoder = zlib.decompressobj(_GZIP)
        self._raw.seek(raw_at)
        packed = self._raw.read(_READ_BYTES)
        if not packed.strip(b"\0") and self._state.decoder.eof:
            return False
        try:
            chunk = decoder.decompress(packed, _STEP_BYTES)
        except zlib.error as error:
            raise UnreadableError("corrupt", "the compressed data are damaged") from error
        used = len(packed) - len(decoder.unconsumed_tail) - len(decoder.unused_data)
        if not used and not chunk and not decoder.eof:
            raise UnreadableError("truncated", "the compressed data end too early")
        self._start, self._chunk = at, chunk
        self._state = _Point(at + len(chunk), raw_at + used, decoder)
        self._check(self._state)
        if self._state.at - self._points[-1].at >= max(_POINT_BYTES, self._state.at >> 7):
            self._points.append(self._copied(self._state))
        return True

    def _check(self, state: _Point) -> None:
        if state.at > self._max_bytes:
            raise UnreadableError(
                "archive_limit", f"the archive unpacks to more than {self._max_bytes} bytes"
            )
        if state.at > _FREE_BYTES + self._max_ratio * state.raw_at:
            raise UnreadableError(
                "archive_limit", f"the archive is packed more than {self._max_ratio} times"
            )

    @staticmethod
    def _copied(point: _Point) -> _Point:
        return point._replace(decoder=point.decoder.copy())
