"""The pages of a TIFF file as frames, each decoded when it is accessed."""

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sono.curation.core.alive import alive
from sono.curation.core.geometry import turned
from sono.curation.readers.pillow_pixels import decoding, image_texts, tiff_tags, values_of
from sono.curation.readers.png_jpeg import ORIENTATION, valid_orientation
from sono.curation.readers.source import (
    DECODER_ERRORS,
    Frame,
    Header,
    LazyFrames,
    Limits,
    ReadResult,
    UnreadableError,
    Values,
    check_size,
    clean_texts,
    quiet_decoders,
    split_color,
    succeeded,
    to_8_bit,
    window_of,
)

_SUBFILE, _THUMBNAIL_OR_MASK = 254, 0b101
_MAX_PAGES = 10_000
_FEW_PAGES = 100  # whose links cost less than a copy of the file


class Pages:
    """The pages of an open TIFF file that are pictures: `numbers`, and the `texts` of all.

    `is_cut` is whether the chain of pages breaks off.
    """

    def __init__(self, content: bytes) -> None:
        file = io.BytesIO(content)
        self.image = Image.open(file, formats=["TIFF"])
        self.numbers: list[int] = []
        self.texts: list[str] = []
        self.is_cut = False
        self.orientation = valid_orientation(tiff_tags(self.image).get(ORIENTATION, 1))
        self._list_pages()
        if len(self.numbers) > _FEW_PAGES:
            _cut_links(file, content)

    def _list_pages(self) -> None:
        for number in range(_MAX_PAGES):
            alive()
            try:
                self.image.seek(number)
                kind = tiff_tags(self.image).get(_SUBFILE, 0)
                self.texts += image_texts(self.image)
            except EOFError:
                return
            except DECODER_ERRORS:
                self.is_cut = True
                return
            if not (self.numbers and isinstance(kind, int) and kind & _THUMBNAIL_OR_MASK):
                self.numbers.append(number)

    def values(self, index: int, limits: Limits) -> Values:
        """The values [H, W] or [H, W, 3] of a page, upright.

        Raises UnreadableError if it cannot be decoded.
        """
        with decoding():
            self.image.seek(self.numbers[index])
            check_size(self.image.height, self.image.width, limits)
            values = values_of(self.image)  # Pillow turns a page and drops its tag
            return turned(values, valid_orientation(tiff_tags(self.image).get(ORIENTATION, 1)))


def _cut_links(file: io.BytesIO, content: bytes) -> None:
    """Remove the link from the first page to the second in `file`, which holds `content`.

    libtiff follows the links of all pages whenever it decodes one; Pillow knows their places.
    """
    order = "<" if content.startswith(b"II") else ">"
    is_big = b"+" in content[2:4]  # BigTIFF
    start, first, count, entry = (8, "Q", "Q", 20) if is_big else (4, "I", "H", 12)
    (page,) = struct.unpack_from(order + first, content, start)
    (entries,) = struct.unpack_from(order + count, content, page)
    file.seek(page + struct.calcsize(count) + entry * entries)
    file.write(bytes(struct.calcsize(first)))


def read_tiff(content: bytes, limits: Limits) -> ReadResult:
    """Read the pages of a TIFF file; reduced copies of pages are left out.

    Raises UnreadableError if no page can be decoded.
    """
    try:
        pages = Pages(content)
    except Image.DecompressionBombError as error:
        raise UnreadableError("too_large") from error
    except DECODER_ERRORS as error:
        raise UnreadableError("corrupt") from error
    first, values = _first(pages, limits)
    most = max(1, limits.max_decoded_bytes // values.nbytes)
    # of the first page, or a series would flicker
    window = None if values.dtype == np.uint8 else window_of(values)
    remarks = {
        "rotated_by_exif": pages.orientation > 1,
        "bit_depth": window is not None,
        "frames_limit": len(pages.numbers) > most or len(pages.numbers) == _MAX_PAGES,
        "frames_mismatch": pages.is_cut,
    }
    size = values.shape[0], values.shape[1]

    def frame(index: int) -> Frame:
        codes: tuple[str, ...] = ()
        try:
            with quiet_decoders():
                page = values if index == first else pages.values(index, limits)
        except (UnreadableError, MemoryError):
            page, codes = np.zeros(size, np.uint8), ("frame_corrupt",)
        picture = np.asarray(page) if page.dtype == np.uint8 else to_8_bit(page, window)
        gray, rgb = split_color(picture)
        return Frame(index, gray, rgb, None, None, "not_dicom", codes, is_screen=False)

    frames: Sequence[Frame] = LazyFrames(min(len(pages.numbers), most), frame)
    header = Header(private=clean_texts(pages.texts))
    return succeeded(frames, [code for code, holds in remarks.items() if holds], header)


def _first(pages: Pages, limits: Limits) -> tuple[int, Values]:
    """The first page that can be decoded, with its values."""
    fault = UnreadableError("corrupt", "the file has no page")
    for index in range(len(pages.numbers)):
        try:
            return index, pages.values(index, limits)
        except UnreadableError as error:
            fault = error if index == 0 else fault
    raise fault
