"""Decoded mask pictures: channels, gray values or palette indices, and opacity."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sono.annotation.exchange.foreign_formats import file_format
from sono.annotation.exchange.foreign_masks import DAMAGED, MAX_PIXELS, read_file
from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import PNG_START

MAX_PICTURE = 1 << 28  # bytes
DARK = 32  # a pixel below this in all channels is unpainted

Values = NDArray[np.int32]


@dataclass(frozen=True)
class Pixels:
    """A decoded picture.

    `rgb` [H, W, 3]; `values` [H, W], the gray values or palette indices of a picture without colors
    of its own; `alpha` [H, W] if it varies. `hidden`: values above 0 that look like another value
    in `rgb`.
    """

    rgb: NDArray[np.uint8]
    values: Values | None
    alpha: Gray | None
    hidden: tuple[int, ...] = ()

    @property
    def opaque(self) -> Mask:
        """Pixels [H, W] that the alpha channel shows."""
        if self.alpha is None:
            return np.ones(self.rgb.shape[:2], np.bool_)
        return np.asarray(self.alpha > int(self.alpha.max()) // 2)

    @property
    def colored(self) -> bool:
        """Whether a visible pixel has a color other than gray."""
        return bool(
            (strongest_channel(self.rgb) - weakest_channel(self.rgb) > DARK)[self.opaque].any()
        )


def decode_picture(path: Path) -> Pixels:
    """The pixels of a mask picture.

    Raises SonoError if it is damaged, truncated or larger than sono reads.
    """
    raw = read_file(path, MAX_PICTURE)
    if not raw.startswith(PNG_START):
        raise SonoError(
            f"{path}: {file_format(raw) or 'not a picture'} that is named .png; export masks as PNG"
        )
    try:
        with open_png(raw) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SonoError(
                    f"{path}: {image.width} x {image.height} pixels are too many for a mask; "
                    "export a smaller one"
                )
            return _separate(ImageOps.exif_transpose(image))
    except DAMAGED as error:
        raise SonoError(f"{path}: not a complete PNG ({error}); copy or export it again") from error


@contextmanager
def open_png(content: bytes) -> Iterator[Image.Image]:
    """A PNG whose pixels are not decoded yet, so that its size can be checked first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(content), formats=["PNG"])
        except UnidentifiedImageError as error:  # its message names an object in memory
            raise OSError("its header is damaged") from error
        with image:
            yield image


def _separate(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        return pixels_of_values(np.asarray(image).astype(np.int32))
    values: Values | None = np.asarray(image).astype(np.int32) if image.mode == "P" else None
    alpha: Gray | None = None
    if "A" in image.mode or "transparency" in image.info:
        alpha = np.array(image.convert("RGBA"), np.uint8)[..., 3]
        half = int(alpha.max()) // 2
        alpha = alpha if (alpha > half).any() and not (alpha > half).all() else None
    rgb = np.array(image.convert("RGB"), np.uint8)
    if values is None and np.array_equal(strongest_channel(rgb), weakest_channel(rgb)):
        values = rgb[..., 0].astype(np.int32)
    return Pixels(rgb, values, alpha, _shared_colors(image) if image.mode == "P" else ())


def pixels_of_values(deep: Values) -> Pixels:
    """The picture of values [H, W] of any depth, the highest of which is white.

    Negative ones are as black as 0.
    """
    gray = (
        (deep.clip(0).astype(np.float64) * (255 / max(int(deep.max()), 1))).round().astype(np.uint8)
    )
    there = np.unique(deep)
    faint = there[(there > 0) & (there * (255 / max(int(there.max()), 1)) <= DARK)]
    return Pixels(np.repeat(gray[..., None], 3, axis=2), deep, None, tuple(faint.tolist()))


def _shared_colors(image: Image.Image) -> tuple[int, ...]:
    """Palette indices in use that share their color with another one, except black."""
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = [index for index in np.unique(np.asarray(image)).tolist() if index < len(palette)]
    colors = [tuple(palette[index].tolist()) for index in used]
    shared = [index for index, color in zip(used, colors, strict=True) if colors.count(color) > 1]
    return tuple(index for index in shared if palette[index].max() > DARK)


def strongest_channel(rgb: NDArray[np.uint8]) -> Gray:
    """The strongest channel [H, W]; NumPy takes ten times as long along a short axis."""
    red, green, blue = cv2.split(rgb)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def weakest_channel(rgb: NDArray[np.uint8]) -> Gray:
    red, green, blue = cv2.split(rgb)
    return np.asarray(cv2.min(cv2.min(red, green), blue), np.uint8)
