"""The tables of an MP4 or QuickTime file, whose sizes FFmpeg trusts, checked before it is opened.

A table may claim millions of samples in a few bytes.
"""

from collections.abc import Iterator

from sono.curation.readers.iso_boxes import boxes
from sono.curation.readers.source import UnreadableError

_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_MAX_SAMPLES = 1 << 20  # of pictures: 9 hours at 30 a second
_MAX_SOUND_SAMPLES = 1 << 24  # uncompressed sound has one sample for each value
_MAX_BOXES = 1 << 17
_MAX_DEPTH = 8


def check_boxes(content: bytes) -> None:
    """Refuse a file without its index, or with tables of more samples than a video has.

    Raises UnreadableError.
    """
    counts = {b"vide": 0, b"soun": 0}
    handler, has_index = b"vide", False
    for number, (kind, start) in enumerate(_boxes(content, 0, len(content), 0)):
        if number > _MAX_BOXES:
            raise UnreadableError("too_large", f"more than {_MAX_BOXES} boxes")
        has_index |= kind == b"moov"
        if kind == b"cmov":
            raise UnreadableError("unsupported", "the index of the video is compressed; convert it")
        if kind == b"hdlr":
            handler = content[start + 8 : start + 12]
        elif kind in (b"stsz", b"trun"):
            size = _number(content, start + 4) if kind == b"stsz" else 0
            count = _number(content, start + (8 if kind == b"stsz" else 4))
            if size and size * count > len(content):
                raise UnreadableError("corrupt", "the video declares more bytes than it has")
            counts[b"soun" if handler == b"soun" else b"vide"] += count
    if not has_index:
        raise UnreadableError(
            "truncated", "the index of the video (moov) is missing; copy or export it again"
        )
    if counts[b"vide"] > _MAX_SAMPLES or counts[b"soun"] > _MAX_SOUND_SAMPLES:
        raise UnreadableError(
            "too_large",
            f"the video declares more than {_MAX_SAMPLES} pictures or {_MAX_SOUND_SAMPLES} "
            "samples of sound; save it without sound or in parts",
        )


def _boxes(content: bytes, start: int, stop: int, depth: int) -> Iterator[tuple[bytes, int]]:
    """Each box as its kind and the start of its content, parents before children."""
    for kind, first, last in boxes(content, start, stop):
        yield kind, first
        if kind in _PARENTS and depth < _MAX_DEPTH:
            yield from _boxes(content, first, last, depth + 1)


def _number(content: bytes, place: int) -> int:
    return int.from_bytes(content[place : place + 4], "big")
