"""The boxes of ISO base media files: MP4, QuickTime and JPEG 2000."""

from collections.abc import Iterator


def boxes(content: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box in a part of a file, and the range of its content, cut at `stop`.

    A box without an end ends the search, as does one that is smaller than its own header.
    """
    while start + 8 <= stop:
        size, head = int.from_bytes(content[start : start + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        end = min(stop, start + size) if size else stop
        yield content[start + 4 : start + 8], start + head, end
        if end < start + head:
            return
        start = end
