"""Mask pictures: what a PNG shows is decided by its pixels, and a picture that is no mask is
refused.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sono.annotation.foreign_masks import (
    MAX_PIXELS,
    ForeignMask,
    Found,
    Picture,
    RefusedError,
    Size,
    read_file,
)
from sono.annotation.outlines import fill_outline, filled
from sono.curation.core.atomic import real_path
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode, encode

MAX_PICTURE = 1 << 28  # bytes
DARK = 32  # a pixel below this in all channels is unpainted
STRAY_SHARE = 0.005  # of the painted pixels: a color rarer than this is the blur of an edge
NEAR = 16  # gray levels or steps of a channel that compression may change
# of the painted pixels inside flat areas: a tone or color rarer than this is no class
CLASS_SHARE = 0.001
MIN_CLASS = 9  # pixels
MAX_LINES = 8
EDGE = 5  # pixels over which a drawn edge may be blurred
MAX_ODD = 0.05  # of the painted pixels: tones that are neither flat areas nor their edges
NEARLY_BLACK = 64  # a picture below this has no soft edges: its values are numbers of classes
FEW_VALUES = 16  # as many can each be looked at
EDGE_SHARE = 0.9  # of the pixels of a value that is the soft edge of a shape
MAX_VALUES = 64  # more values are tones, not classes
SHOWN_CLASSES = 8

# A named color is the set of its strong channels, so dark red (128, 0, 0) is red too.
COLORS = {
    "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0),
    "olive": (1, 1, 0), "magenta": (1, 0, 1), "purple": (1, 0, 1), "cyan": (0, 1, 1),
    "teal": (0, 1, 1), "white": (1, 1, 1), "gray": (1, 1, 1),
}  # fmt: skip

Mask = NDArray[np.bool_]
Gray = NDArray[np.uint8]
Values = NDArray[np.int32]


def _never(_: Gray) -> bool:
    return False


@dataclass(frozen=True)
class PictureRules:
    """How mask pictures are read: all of one `structure`, by color or by value.

    `is_frame` knows the study's frames.
    """

    structure: str | None = None
    colors: Mapping[str, str] = field(default_factory=dict)  # color -> label
    values: Mapping[int, str] = field(default_factory=dict)  # gray value or palette index -> label
    is_frame: Callable[[Gray], bool] = _never
    # take pictures of one structure as such, though their values or colors differ
    force: bool = False


@dataclass(frozen=True)
class Pixels:
    """A decoded picture: `rgb` [H, W, 3]; `values` [H, W], the gray values or palette indices of
    one that has no colors of its own; `alpha` [H, W] where it varies. `hidden`: values above 0 that
    look like another one in `rgb`.
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
        """Whether a pixel that is shown is of a color other than gray."""
        return bool((_top(self.rgb) - _bottom(self.rgb) > DARK)[self.opaque].any())


def read_mask_picture(path: Path, folder: Path, rules: PictureRules, found: Found) -> None:
    """Add the masks of one PNG below `folder` to `found`, or why it is refused."""
    picture = Picture(
        path.relative_to(folder).as_posix(), str(path), str(real_path(folder)), file=path
    )
    try:
        pixels = decode_picture(path)
        masks = split_picture(pixels, rules, found)
    except RefusedError as refused:
        found.refuse(refused.reason, path, str(refused))
        return
    except SonoError as error:
        found.refuse("broken", path, str(error).removeprefix(f"{path}: "))
        return
    found.pictures.append(picture)
    if rules.structure is not None and not rules.values:
        found.paints.setdefault(_paint(pixels), []).append(str(path))
    for label, mask in masks.items():
        read = partial(_decoded, encode(mask))
        size, nested = (mask.shape[0], mask.shape[1]), bool(rules.values)
        found.masks.append(ForeignMask(picture, label, size, str(path), read, nested=nested))


def _paint(pixels: Pixels) -> str:
    """The value or the kind of color in which most of a shape is painted.

    Tones that compression may mix are one.
    """
    shown = pixels.opaque
    if pixels.values is not None and 0 < int(pixels.values[shown].max(initial=0)) < NEARLY_BLACK:
        there, counts = np.unique(pixels.values[shown & (pixels.values > 0)], return_counts=True)
        return f"value {there[counts.argmax()]}"
    bright = shown & (_top(pixels.rgb) > DARK)
    if not pixels.colored or not bright.any():
        return "white or gray"
    typical = np.median(pixels.rgb[bright], axis=0)
    strong = tuple(int(channel > typical.max() / 2) for channel in typical)
    return next(name for name, channels in COLORS.items() if channels == strong)


def _decoded(counts: str, size: Size) -> Mask:
    return decode(counts, *size)


def decode_picture(path: Path) -> Pixels:
    """The pixels of a mask picture.

    SonoError when it is damaged, cut short or larger than sono reads.
    """
    try:
        with Image.open(io.BytesIO(read_file(path, MAX_PICTURE)), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SonoError(
                    f"{path}: {image.width} x {image.height} pixels are too many for a mask"
                )
            return _pixels(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SonoError(f"{path}: not a whole PNG ({error}); copy or export it again") from error


def _pixels(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int32)
        gray = (deep.astype(np.float64) * (255 / max(int(deep.max()), 1))).round().astype(np.uint8)
        there = np.unique(deep)
        faint = there[(there > 0) & (there * (255 / max(int(there.max()), 1)) <= DARK)]
        return Pixels(np.repeat(gray[..., None], 3, axis=2), deep, None, tuple(faint.tolist()))
    values: Values | None = np.asarray(image).astype(np.int32) if image.mode == "P" else None
    alpha: Gray | None = None
    if "A" in image.mode or "transparency" in image.info:
        alpha = np.array(image.convert("RGBA"), np.uint8)[..., 3]
        half = int(alpha.max()) // 2
        alpha = alpha if (alpha > half).any() and not (alpha > half).all() else None
    rgb = np.array(image.convert("RGB"), np.uint8)
    if values is None and np.array_equal(_top(rgb), _bottom(rgb)):
        values = rgb[..., 0].astype(np.int32)
    return Pixels(rgb, values, alpha, _of_one_color(image) if image.mode == "P" else ())


def _of_one_color(image: Image.Image) -> tuple[int, ...]:
    """The indices in use of a palette picture whose color is that of another one, black left
    out.
    """
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = [index for index in np.unique(np.asarray(image)).tolist() if index < len(palette)]
    colors = [tuple(palette[index].tolist()) for index in used]
    shared = [index for index, color in zip(used, colors, strict=True) if colors.count(color) > 1]
    return tuple(index for index in shared if palette[index].max() > DARK)


def split_picture(pixels: Pixels, rules: PictureRules, found: Found) -> dict[str, Mask]:
    """The masks [H, W] of a picture by label; RefusedError for a picture that is no mask."""
    gray = cv2.cvtColor(
        np.where(pixels.opaque[..., None], pixels.rgb, 0).astype(np.uint8), cv2.COLOR_RGB2GRAY
    )
    if rules.is_frame(np.asarray(gray, np.uint8)):
        raise RefusedError("frame", "its pixels are those of a frame")
    if rules.values:
        return _by_value(pixels, rules.values, found)
    if rules.structure is not None:
        return {rules.structure: fill_outline(_one_shape(pixels))}
    if not pixels.colored:
        raise RefusedError("no_structure", 'say what it shows with --structure "fetal head"')
    return _by_color(pixels, rules.colors)


def _one_shape(pixels: Pixels) -> Mask:
    """The shape of a picture that shows one.

    By its alpha channel where that varies, else by its brightness.
    """
    opaque = pixels.opaque
    top = _top(pixels.rgb)
    if pixels.hidden and len(values := _values_of(pixels)) <= MAX_VALUES:
        _refuse_classes(values, "value", pixels)
    if pixels.alpha is not None:
        _refuse_classes(
            _flat(np.repeat(pixels.alpha[..., None], 3, axis=2), pixels.alpha > 0), "opacity", None
        )
        if _has_tones(top, opaque):  # a frame cut out along the shape
            return opaque
        inner = _flat(pixels.rgb, opaque)
        if len(inner) < 2:
            return opaque
        _refuse_classes(
            {color: count for color, count in inner.items() if max(color) > DARK}, "color", pixels
        )
        return opaque & (top > int(top[opaque].max()) // 2)
    painted = top > DARK
    few = _few_values(pixels)
    if few is not None:
        _refuse_classes(few, "value", pixels)
    elif _has_tones(top, painted):
        raise RefusedError("tones", "it has the many tones of a picture; a mask has flat areas")
    else:
        _refuse_classes(_flat(pixels.rgb, painted), "color", pixels)
    return np.asarray(top > int(top.max()) // 2)


def _few_values(pixels: Pixels) -> dict[tuple[int, ...], int] | None:
    """Pixels of each value that is a class, in a gray picture of few values; None for one of many
    values, or colors.

    Of a picture that is not nearly black, a value between two others all along is the soft edge of
    a shape, and values that differ by little are one.
    """
    if pixels.values is None or pixels.colored:
        return None
    gray = pixels.rgb[..., 0]
    values, counts = np.unique(gray, return_counts=True)
    if len(values) > FEW_VALUES:
        return None
    pixels_of: dict[tuple[int, ...], int] = {
        (int(value),): int(count) for value, count in zip(values, counts, strict=True) if value
    }
    top, window = int(values[-1]), np.ones((3, 3), np.uint8)
    if top < NEARLY_BLACK:
        return pixels_of
    lowest, highest = cv2.erode(gray, window), cv2.dilate(gray, window)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        between = (gray == value) & (lowest < value) & (highest > value)
        if 0 < value < top and between.sum() >= EDGE_SHARE * count:
            del pixels_of[(value,)]
    groups = [group for group in _clusters([(0,), *pixels_of]) if (0,) not in group]
    return {
        max(group, key=lambda one: pixels_of[one]): sum(map(pixels_of.__getitem__, group))
        for group in groups
    }


def _values_of(pixels: Pixels) -> dict[tuple[int, ...], int]:
    """Pixels by value, zero left out; of a picture without values, by brightness."""
    values = pixels.values if pixels.values is not None else _top(pixels.rgb).astype(np.int32)
    found, counts = np.unique(values[values > 0], return_counts=True)
    return {(int(value),): int(count) for value, count in zip(found, counts, strict=True)}


def _has_tones(top: Gray, painted: Mask) -> bool:
    """Whether `painted` pixels of a picture [H, W] have the tones of an image rather than flat
    areas with edges.
    """
    if _is_line(painted):
        return False
    flat = [color[0] for color in _modes(top[..., None], painted)]
    clusters = _clusters([(tone,) for tone in flat])
    if any(max(cluster)[0] - min(cluster)[0] > 3 * NEAR for cluster in clusters):
        return True
    bright = flat or [int(top[painted].max(initial=0))]
    areas = np.zeros(top.shape, np.bool_)
    for tone in bright:
        areas |= np.abs(top.astype(np.int16) - tone) <= NEAR
    areas &= painted
    edge = _grown(~painted | (top <= DARK)) & _grown(areas)
    odd = painted & ~areas & ~edge
    return bool(odd.sum() > MAX_ODD * max(int(painted.sum()), 1))


def _is_line(painted: Mask) -> bool:
    """Whether the `painted` pixels [H, W] are one or a few thin lines."""
    mask = painted.astype(np.uint8)
    thin = not cv2.erode(mask, np.ones((EDGE, EDGE), np.uint8)).any()
    return thin and cv2.connectedComponents(mask)[0] - 1 <= MAX_LINES


def _grown(mask: Mask) -> Mask:
    return np.asarray(
        cv2.dilate(mask.astype(np.uint8), np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)) > 0
    )


def _modes(picture: NDArray[np.uint8], painted: Mask) -> dict[tuple[int, ...], int]:
    """Colors (one number for gray) of [H, W, C] that fill flat areas of 3 x 3 pixels, with the
    pixels in such areas.
    """
    packed = np.zeros(picture.shape[:2], np.float32)  # exact up to 2 ** 24
    for channel in np.moveaxis(picture, 2, 0):
        packed = packed * 256 + channel
    window = np.ones((3, 3), np.uint8)
    inside = (cv2.dilate(packed, window) == cv2.erode(packed, window)) & painted
    colors, counts = np.unique(packed[inside].astype(np.int64), return_counts=True)
    least = max(MIN_CLASS, CLASS_SHARE * int(painted.sum()))
    depth = picture.shape[2]
    return {
        tuple(int(color) >> 8 * (depth - 1 - channel) & 255 for channel in range(depth)): int(count)
        for color, count in zip(colors, counts, strict=True)
        if count >= least
    }


def _clusters(colors: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Colors that differ by little, in groups."""
    groups: list[list[tuple[int, ...]]] = []
    for color in sorted(colors):
        near = (
            one
            for one in groups
            if any(np.abs(np.subtract(color, other)).max() <= NEAR for other in one)
        )
        group = next(near, None)
        if group is None:
            groups.append([color])
        else:
            group.append(color)
    return groups


def _flat(rgb: NDArray[np.uint8], painted: Mask) -> dict[tuple[int, ...], int]:
    """Flat colors of the `painted` pixels, those of one group under the most frequent, with
    their pixels.
    """
    modes = _modes(rgb, painted)
    if len(modes) > MAX_VALUES**2:
        raise RefusedError("tones", "it has the many tones of a picture; a mask has flat areas")
    groups = {
        max(group, key=lambda color: modes[color]): sum(modes[color] for color in group)
        for group in _clusters(list(modes))
    }
    brightest = rgb[painted].max(axis=1) if painted.any() else np.zeros(0, np.uint8)
    top = int(brightest.max(initial=0))
    lines = int((brightest >= top - NEAR).sum())
    if groups and lines >= MIN_CLASS and all(max(color) < top - 2 * NEAR for color in groups):
        groups[(top,) * 3] = lines  # thin lines over an area
    return groups


def _refuse_classes(
    classes: Mapping[tuple[int, ...], int], kind: str, pixels: Pixels | None
) -> None:
    """RefusedError where a picture that should show one structure shows several."""
    if len(classes) < 2:
        return
    if pixels is not None and pixels.values is not None:
        classes, kind = _values_of(pixels), "value"
    shown = sorted(classes.items(), key=lambda item: -item[1])[:SHOWN_CLASSES]
    names = [_hex(color) if kind == "color" else str(color[0]) for color, _ in shown]
    counts = ", ".join(
        f"{name} ({count} pixels)" for name, (_, count) in zip(names, shown, strict=True)
    )
    option = {"opacity": "", "color": f'--color "{names[0]}=fetal head"'}.get(
        kind, f'--value {names[0]}="fetal head"'
    )
    offer = (
        f"; instead of --structure say what each shows, as in {option} (repeat)" if option else ""
    )
    raise RefusedError("classes", f"by {kind}: {counts}{offer}")


def _hex(color: tuple[int, ...]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color)


def _by_value(pixels: Pixels, values: Mapping[int, str], found: Found) -> dict[str, Mask]:
    if pixels.values is None:
        raise RefusedError(
            "no_structure", "it has colors, no values; say what they show with --color"
        )
    there, counts = np.unique(pixels.values[pixels.opaque], return_counts=True)
    if len(there) > MAX_VALUES:
        raise RefusedError("tones", f"it has {len(there)} values; a picture of classes has few")
    named = {value: label for value, label in values.items() if value in there}
    for value, count in zip(there.tolist(), counts.tolist(), strict=True):
        if value and value not in named:
            found.unnamed[value] = found.unnamed.get(value, 0) + count
    if not named:
        shown = ", ".join(map(str, there[:SHOWN_CLASSES]))
        raise RefusedError(
            "no_structure", f"its values are {shown}, and no --value names one of them"
        )
    masks: dict[str, Mask] = {}
    for value, label in named.items():
        mask = (pixels.values == value) & pixels.opaque
        masks[label] = masks[label] | mask if label in masks else mask
    return masks


def _by_color(pixels: Pixels, colors: Mapping[str, str]) -> dict[str, Mask]:
    picture = np.where(pixels.opaque[..., None], pixels.rgb, 0).astype(np.uint8)
    painted = _top(picture) > DARK
    shapes = {number: match_color(picture, color) & painted for number, color in enumerate(colors)}
    left = painted & ~np.logical_or.reduce(list(shapes.values()))
    if left.sum() > STRAY_SHARE * painted.sum():
        color = _hex(tuple(np.median(picture[left], axis=0).astype(int).tolist()))
        raise RefusedError(
            "no_structure",
            f"color {color} covers {left.sum()} pixels and has no structure; name it with --color "
            f'"{color}=STRUCTURE"',
        )
    masks: dict[str, Mask] = {}
    for label, shape in zip(colors.values(), shapes.values(), strict=True):
        # a structure painted over another one left a hole in it
        whole = shape | (filled(shape) & painted)
        masks[label] = masks[label] | whole if label in masks else whole
    return {
        label: mask
        for label, mask in masks.items()
        if mask.sum() > STRAY_SHARE * painted.sum() / 10
    }


def _top(rgb: NDArray[np.uint8]) -> Gray:
    """The strongest channel [H, W]; NumPy takes ten times as long along a short axis."""
    red, green, blue = cv2.split(rgb)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def _bottom(rgb: NDArray[np.uint8]) -> Gray:
    red, green, blue = cv2.split(rgb)
    return np.asarray(cv2.min(cv2.min(red, green), blue), np.uint8)


def match_color(picture: NDArray[np.uint8], color: str) -> Mask:
    """Pixels [H, W] of RGB `picture` in a color given as #rrggbb (within 24) or by name (by its
    strong channels).
    """
    if color.startswith("#") and len(color) == 7:
        try:
            wanted = np.frombuffer(bytes.fromhex(color[1:]), np.uint8).astype(np.int16)
        except ValueError as error:
            raise SonoError(
                f"'{color}' is not a color; write #rrggbb or one of {', '.join(COLORS)}"
            ) from error
        return np.asarray(np.abs(picture.astype(np.int16) - wanted).max(axis=2) <= 24)
    if color not in COLORS:
        raise SonoError(f"unknown color '{color}'; write #rrggbb or one of {', '.join(COLORS)}")
    half = _top(picture) // 2
    strong = [channel > half for channel in cv2.split(picture)]
    wrong = [one != bool(wanted) for one, wanted in zip(strong, COLORS[color], strict=True)]
    return np.asarray(~np.logical_or.reduce(wrong))
