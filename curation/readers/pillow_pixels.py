"""Pixels and texts of a picture that Pillow has opened."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from sono.curation.readers.source import DECODER_ERRORS, UnreadableError, Values, text_runs

EXIF_IFD = 0x8769  # the tag of the nested EXIF directory


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
    """Texts in the tags of TIFF and the comments of GIF."""
    found: list[str] = []
    nested = image.getexif().get_ifd(EXIF_IFD).values() if image.format == "TIFF" else ()
    for value in (*tiff_tags(image).values(), *nested, image.info.get("comment")):
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, bytes):
            found += text_runs(value)
    return found


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
