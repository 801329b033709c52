"""Read mask pictures: split a PNG into masks by its pixels, or refuse it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.annotation.exchange.flat_areas import (
    MAX_VALUES,
    NEARLY_BLACK,
    count_classes,
    count_values,
    flat_colors,
    has_tones,
)
from sono.annotation.exchange.foreign_masks import ForeignMask, Found, Picture, RefusedError, Size
from sono.annotation.exchange.picture_pixels import DARK, Pixels, decode_picture, strongest_channel
from sono.annotation.outlines import fill_outline, filled
from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.atomic import real_path
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode, encode

STRAY_SHARE = 0.005  # of the painted pixels: a color rarer than this is the blur of an edge
SHOWN_CLASSES = 8

# A named color is the set of its strong channels, so dark red (128, 0, 0) is red too.
COLORS = {
    "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0),
    "olive": (1, 1, 0), "magenta": (1, 0, 1), "purple": (1, 0, 1), "cyan": (0, 1, 1),
    "teal": (0, 1, 1), "white": (1, 1, 1), "gray": (1, 1, 1),
}  # fmt: skip


def _never(_: Gray) -> bool:
    return False


@dataclass(frozen=True)
class PictureRules:
    """How mask pictures are read: all as one `structure`, by color or by value.

    `is_frame` recognizes frames of the study.
    """

    structure: str | None = None
    colors: Mapping[str, str] = field(default_factory=dict)  # color -> label
    values: Mapping[int, str] = field(default_factory=dict)  # gray value or palette index -> label
    is_frame: Callable[[Gray], bool] = _never
    # take pictures of one structure as such, though their values or colors differ
    force: bool = False


def read_mask_picture(
    path: Path,
    folder: Path,
    rules: PictureRules,
    found: Found,
    decode: Callable[[Path], Pixels] = decode_picture,
) -> None:
    """Add the masks of one picture below `folder` to `found`, or the reason for its refusal.

    `decode` reads a file of its format; the ending of any other than PNG is not part of its name.
    """
    inside = path.relative_to(folder)
    name = inside if decode is decode_picture else inside.with_suffix("")
    picture = Picture(name.as_posix(), str(path), str(real_path(folder)), file=path)
    try:
        pixels = decode(path)
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
        read = decoded_reader(mask)
        size, nested = (mask.shape[0], mask.shape[1]), bool(rules.values)
        found.masks.append(ForeignMask(picture, label, size, str(path), read, nested=nested))


def _paint(pixels: Pixels) -> str:
    """The value or the kind of color of most of a shape.

    Tones that compression may mix count as one.
    """
    shown = pixels.opaque
    if pixels.values is not None and 0 < int(pixels.values[shown].max(initial=0)) < NEARLY_BLACK:
        there, counts = np.unique(pixels.values[shown & (pixels.values > 0)], return_counts=True)
        return f"value {there[counts.argmax()]}"
    bright = shown & (strongest_channel(pixels.rgb) > DARK)
    if not pixels.colored or not bright.any():
        return "white or gray"
    typical = np.median(pixels.rgb[bright], axis=0)
    strong = tuple(int(channel > typical.max() / 2) for channel in typical)
    return next(name for name, channels in COLORS.items() if channels == strong)


def decoded_reader(mask: Mask) -> Callable[[Size], Mask]:
    """A function that returns `mask` [H, W], which it keeps as runs."""
    return partial(_decoded, encode(mask))


def _decoded(counts: str, size: Size) -> Mask:
    return decode(counts, *size)


def split_picture(pixels: Pixels, rules: PictureRules, found: Found) -> dict[str, Mask]:
    """The masks [H, W] of a picture by label; raises RefusedError for a picture that is no mask."""
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
        raise RefusedError("no_structure", 'name what it shows with --structure "fetal head"')
    return _by_color(pixels, rules.colors)


def _one_shape(pixels: Pixels) -> Mask:
    """The shape [H, W] of a picture of one structure.

    It is read from the alpha channel if that varies, else from the brightness.
    """
    opaque = pixels.opaque
    top = strongest_channel(pixels.rgb)
    if pixels.hidden and len(values := count_values(pixels)) <= MAX_VALUES:
        _refuse_classes(values, "value", pixels)
    if pixels.alpha is not None:
        _refuse_classes(
            flat_colors(np.repeat(pixels.alpha[..., None], 3, axis=2), pixels.alpha > 0),
            "opacity",
            None,
        )
        if has_tones(top, opaque):  # a frame cut out along the shape
            return opaque
        inner = flat_colors(pixels.rgb, opaque)
        if len(inner) < 2:
            return opaque
        _refuse_classes(
            {color: count for color, count in inner.items() if max(color) > DARK}, "color", pixels
        )
        return opaque & (top > int(top[opaque].max()) // 2)
    painted = top > DARK
    few = count_classes(pixels)
    if few is not None:
        _refuse_classes(few, "value", pixels)
    elif has_tones(top, painted):
        raise RefusedError("tones", "it has the many tones of a picture; a mask has flat areas")
    else:
        _refuse_classes(flat_colors(pixels.rgb, painted), "color", pixels)
    return np.asarray(top > int(top.max()) // 2)


def _refuse_classes(
    classes: Mapping[tuple[int, ...], int], kind: str, pixels: Pixels | None
) -> None:
    """Raise RefusedError if a picture of one structure shows several classes."""
    if len(classes) < 2:
        return
    if pixels is not None and pixels.values is not None:
        classes, kind = count_values(pixels), "value"
    shown = sorted(classes.items(), key=lambda item: -item[1])[:SHOWN_CLASSES]
    names = [_hex(color) if kind == "color" else str(color[0]) for color, _ in shown]
    counts = ", ".join(
        f"{name} ({count} pixels)" for name, (_, count) in zip(names, shown, strict=True)
    )
    option = {"opacity": "", "color": f'--color "{names[0]}=fetal head"'}.get(
        kind, f'--value {names[0]}="fetal head"'
    )
    offer = f"; instead of --structure name each class, as in {option} (repeat)" if option else ""
    raise RefusedError("classes", f"by {kind}: {counts}{offer}")


def _hex(color: tuple[int, ...]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color)


def _by_value(pixels: Pixels, values: Mapping[int, str], found: Found) -> dict[str, Mask]:
    if pixels.values is None:
        raise RefusedError(
            "no_structure", "it has colors, not values; name what they show with --color"
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
    painted = strongest_channel(picture) > DARK
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


def match_color(picture: NDArray[np.uint8], color: str) -> Mask:
    """Pixels [H, W] of RGB `picture` [H, W, 3] in a color.

    `color` is #rrggbb, with a tolerance of 24, or a name, matched by its strong channels. Raises
    SonoError for an unknown color.
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
    half = strongest_channel(picture) // 2
    strong = [channel > half for channel in cv2.split(picture)]
    wrong = [one != bool(wanted) for one, wanted in zip(strong, COLORS[color], strict=True)]
    return np.asarray(~np.logical_or.reduce(wrong))
