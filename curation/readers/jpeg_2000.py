"""The structure of JPEG 2000 files (ISO 15444-1), checked before they are decoded.

The decoder fills what is missing at the end of a file, so the tile parts are followed to their end.
"""

from sono.curation.readers.iso_boxes import boxes
from sono.curation.readers.png_jpeg import profile_texts
from sono.curation.readers.source import UnreadableError, text_runs

STARTS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_CODESTREAM, _HEADER = b"jp2c", b"jp2h"
# Boxes that hold no text. Any other is searched.
_PLAIN = (b"jP  ", b"ftyp", b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef", b"res ")
_PROFILE_START = 3  # in a box of colors
_END, _TILE, _COMMENT = 0xFFD9, 0xFF90, 0xFF64
_TILE_BYTES = 12  # of the header of a tile part


def walk_jpeg_2000(content: bytes) -> tuple[tuple[str, ...], bytes]:
    """The texts of a file, and the bytes after the end of a bare codestream.

    Raises UnreadableError for a file that ends too early.
    """
    texts: list[str] = []
    if content.startswith(STARTS[1]):
        end = _end(content, 0, len(content), texts)
        return tuple(texts), content[end:].strip(b"\0")
    found: tuple[int, int] | None = None
    for kind, first, last in boxes(content, 0, len(content)):
        if kind == _HEADER:
            for inner, start, end in boxes(content, first, last):
                texts += _box_texts(inner, content[start:end])
        elif kind == _CODESTREAM:
            found = found or (first, last)
        else:
            texts += _box_texts(kind, content[first:last])
    if found is None:
        raise UnreadableError("truncated", "the file ends before its pixels do")
    _end(content, *found, texts)
    return tuple(texts), b""


def _box_texts(kind: bytes, body: bytes) -> list[str]:
    if kind == b"colr":
        return profile_texts(body[_PROFILE_START:])
    return [] if kind in _PLAIN else text_runs(body)


def _end(content: bytes, start: int, stop: int, texts: list[str]) -> int:
    """The place after the end of the codestream; its comments go to `texts`."""
    place = start + 2
    while place + 4 <= stop:
        marker = int.from_bytes(content[place : place + 2], "big")
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        part = int.from_bytes(content[place + 6 : place + 10], "big")
        if marker == _END or (marker == _TILE and part == 0):  # 0: up to the end
            break
        if marker == _TILE and part >= _TILE_BYTES:
            place += part
        elif marker != _TILE and marker >> 8 == 0xFF and length >= 2:
            if marker == _COMMENT:
                texts += text_runs(content[place + 6 : place + 2 + length])
            place += 2 + length
        else:
            raise UnreadableError("corrupt", "the parts of the picture do not follow each other")
    end = _END.to_bytes(2, "big")
    if content[place : place + 2] == end and place < stop:
        return place + 2
    last = content[:stop].rstrip(b"\0")
    if content[place : place + 2] == _TILE.to_bytes(2, "big") and last.endswith(end):
        return len(last)
    raise UnreadableError("truncated", "the file ends before its pixels do")
