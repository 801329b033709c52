"""Pixels and texts of a picture that Pillow has opened."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from sono.curation.readers.png_jpeg import profile_texts
from sono.curation.readers.source import DECODER_ERRORS, UnreadableError, Values, text_runs

_NESTED = (0x8769, 0x8825)  # the tags of the nested directories of EXIF and of places
_NEWS = 33723  # the tag of IPTC texts
_GIF_START = 13


@contextmanager
def decoding() -> Iterator[None]:
    """Raise UnreadableError for what Pillow and OpenCV raise on broken or huge pictures."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UnreadableError("too_large") from error
    except DECODER_ERRORS as error:
        code = "truncated" if "truncated" in str(error) else "corrupt"
        raise UnreadableError(code) from error


def tiff_tags(image: Image.Image) -> dict[int, object]:
    """The tags of the present page of a TIFF file; {} for other formats."""
    return dict(getattr(image, "tag_v2", {}))


def image_texts(image: Image.Image) -> list[str]:
    """Texts in the tags of the present page of a TIFF file; [] for other formats."""
    found: list[str] = []
    tags = tiff_tags(image)
    nested = [
        one for tag in _NESTED if tag in tags for one in image.getexif().get_ifd(tag).values()
    ]
    for value in (*tags.values(), *nested):
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, bytes):
            found += text_runs(value)
    # Pillow cuts IPTC texts that are written as numbers to the first of them
    news: bytes = getattr(getattr(image, "tag_v2", None), "_tagdata", {}).get(_NEWS, b"")
    return found + text_runs(news) + profile_texts(image.info.get("icc_profile") or b"")


def gif_texts(content: bytes) -> list[str]:
    """The texts in all extensions of a GIF file: comments, captions and data of programs."""
    place = _GIF_START + _palette_bytes(content[10:11])
    found: list[str] = []
    while content[place : place + 1] in (b"!", b","):
        is_picture = content[place] == 0x2C
        kind = content[place + 1 : place + 2]
        place += 11 + _palette_bytes(content[place + 9 : place + 10]) if is_picture else 2
        start = place
        while size := (content[place : place + 1] or b"\0")[0]:
            place += 1 + size
        place += 1
        if not is_picture and kind != b"\xf9":  # how a picture is shown
            found += text_runs(b"".join(_blocks(content[start:place])))
    return found


def _blocks(data: bytes) -> Iterator[bytes]:
    """The parts of up to 255 bytes that a part of a GIF file consists of."""
    place = 0
    while place < len(data) and data[place]:
        yield data[place + 1 : place + 1 + data[place]]
        place += 1 + data[place]


def _palette_bytes(flags: bytes) -> int:
    """The size of the colors that follow; 0 if there are none."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def values_of(image: Image.Image) -> Values:
    """Decoded values [H, W] or [H, W, 3].

    Transparency is composed on black, as on the scanner's screen.
    """
    image.load()
    if image.mode == "F":
        raise UnreadableError(
            "unsupported", "floating point pixels; export the picture with 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        return np.asarray(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return on_black(np.asarray(image.convert("RGBA")))
    if image.mode in ("L", "RGB"):
        return np.asarray(image)
    return np.asarray(image.convert("L" if image.mode == "1" else "RGB"))


def on_black(rgba: Values) -> Values:
    """Compose RGBA [H, W, 4] on black."""
    top = np.iinfo(rgba.dtype).max
    color, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return np.asarray((color * alpha + top // 2) // top, rgba.dtype)
