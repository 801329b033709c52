"""HEIC and HEIF pictures of phones (ISO 23008-12), decoded by the libheif of the extra `heif`."""

import io
from typing import TYPE_CHECKING

import numpy as np

from sono.curation.readers.containers import INSTALL_HEIF
from sono.curation.readers.iso_boxes import boxes
from sono.curation.readers.pillow_pixels import decoding, on_black
from sono.curation.readers.png_jpeg import profile_texts
from sono.curation.readers.source import (
    Limits,
    Values,
    check_size,
    missing_extra,
    text_runs,
)

if TYPE_CHECKING:
    from pi_heif import HeifImage

# Boxes with other boxes in them, and the bytes before the first one.
_PARENTS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"grpl": 0, b"dinf": 0, b"dref": 8}
_ITEMS, _ITEM, _HANDLER = b"iinf", b"infe", b"hdlr"
_ITEM_START, _HANDLER_START = 12, 24  # where their names begin
_PROFILE, _PROFILE_START = b"colr", 4
# Boxes that hold pixels, numbers or fixed names. Any other is searched.
_PLAIN = (
    b"ftyp", b"mdat", b"pitm", b"iloc", b"iref", b"ipma", b"ispe", b"pixi", b"hvcC", b"lhvC",
    b"irot", b"imir", b"clap", b"pasp", b"auxC", b"clli", b"mdcv", b"amve", b"cclv", b"rloc",
    b"moov", b"mpvd",
)  # fmt: skip
_DEPTH = 4


def read_pixels(content: bytes, limits: Limits) -> tuple[Values, list[str], list[str]]:
    """The main picture [H, W] or [H, W, 3] of a file, upright, with remarks and texts.

    Raises UnreadableError if it cannot be decoded or the extra is not installed.
    """
    try:
        import pi_heif
    except ImportError as error:
        raise missing_extra(f"HEIC picture: {INSTALL_HEIF}") from error
    with decoding():
        pictures = pi_heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=False)
        texts = heif_texts(content)
        for one in pictures:
            texts += _item_texts(one.info)
        main = pictures[pictures.primary_index]
        check_size(main.size[1], main.size[0], limits)
        values = _values(main)
    if values.ndim == 3 and values.shape[2] == 4:
        values = on_black(values)
    return values, ["first_frame_only"] * (len(pictures) > 1), texts


def _values(picture: "HeifImage") -> Values:
    """A copy of the pixels [H, W] or [H, W, channels], without the padding of their rows."""
    width, height = picture.size
    channels = picture.mode.partition(";")[0]
    number = np.dtype("<u2" if picture.mode.endswith(";16") else np.uint8)
    rows = np.frombuffer(picture.data, np.uint8).reshape(-1, picture.stride)[:height]
    used = np.ascontiguousarray(rows[:, : width * len(channels) * number.itemsize]).view(number)
    shape = (height, width, len(channels)) if len(channels) > 1 else (height, width)
    return used.reshape(shape).copy()


def heif_texts(content: bytes) -> list[str]:
    """The texts in the boxes of a file; those of its items, such as EXIF, are not in them."""
    texts: list[str] = []
    _box_texts(content, 0, len(content), texts, _DEPTH)
    return texts


def _box_texts(content: bytes, start: int, stop: int, texts: list[str], depth: int) -> None:
    for kind, first, last in boxes(content, start, stop):
        if kind in _PARENTS and depth:
            _box_texts(content, first + _PARENTS[kind], last, texts, depth - 1)
        elif kind == _ITEMS:
            items = first + (6 if content[first : first + 1] == b"\0" else 8)
            for _, begin, end in boxes(content, items, last):
                texts += text_runs(content[begin + _ITEM_START : end])
        elif kind == _HANDLER:
            texts += text_runs(content[first + _HANDLER_START : last])
        elif kind == _PROFILE:
            texts += profile_texts(content[first + _PROFILE_START : last])
        elif kind not in _PLAIN:
            texts += text_runs(content[first:last])


def _item_texts(info: dict[str, object]) -> list[str]:
    """The texts of EXIF, XMP, color profile and other metadata of a picture."""
    texts: list[str] = []
    for name in ("exif", "xmp"):
        value = info.get(name)
        texts += text_runs(value) if isinstance(value, bytes) else []
    profile = info.get("icc_profile")
    texts += profile_texts(profile) if isinstance(profile, bytes) else []
    for block in info.get("metadata") or []:  # type: ignore[attr-defined]
        for value in block.values():
            texts += text_runs(value if isinstance(value, bytes) else str(value).encode())
    return texts
