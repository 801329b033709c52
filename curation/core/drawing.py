"""Frames as pictures for people: masks drawn on them, and contact sheets."""

import colorsys
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sono.curation.core.atomic import sha256
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import letterbox
from sono.curation.core.planes import PlaneTable

# The lines of masks, for the legend of a sheet.
LEGEND = (
    "\u2501\u2501\u2501\u2501 accepted or edited mask",
    "\u2501 \u2501 \u2501 proposed mask: not reviewed",
)
# Turns of the color wheel between neighbors of the structure list: of the multiples of 1/301, the
# one for which the structures of each plane differ most.
HUE_STEP = 106 / 301
DASH = 10  # thicknesses of a line in a dash, and in a gap

FILL = 0.15  # share of the structure's color inside its outline
INK, FAINT = "#22272e", "#6b7480"
SHEET_GAP, SHEET_LINE = 10, 15  # pixels between tiles, and of a line of words
SWATCH = 9  # pixels of the square of a structure's color before its name


class DrawnMask(NamedTuple):
    """A mask [H, W] of a structure to draw; a proposal has a dashed outline."""

    structure: str
    mask: NDArray[np.bool_]
    proposed: bool = False


def structure_color(structure: str) -> tuple[int, int, int]:
    """A bright RGB color that depends on the name alone.

    The structures of a standard plane differ by at least 20 degrees of hue.
    """
    order = _standard_structures()
    turns = order.index(structure) * HUE_STEP if structure in order else _hash_share(structure)
    hue = turns % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


@cache
def _standard_structures() -> list[str]:
    """The structures of the standard planes in the order of the plane table."""
    return list(dict.fromkeys(name for plane in PlaneTable().planes for name in plane.structures))


def _hash_share(name: str) -> float:
    return int(sha256(name.encode())[:8], 16) / 2**32


def overlay(
    gray: NDArray[np.uint8], masks: Sequence[DrawnMask], fill: float = FILL
) -> NDArray[np.uint8]:
    """A frame [H, W] as RGB [H, W, 3], with each mask outlined, and tinted by the share `fill`."""
    picture = np.repeat(gray[..., None], 3, axis=2)
    thickness = max(1, round(max(gray.shape) / 300))
    for structure, mask, proposed in masks:
        if mask.shape != gray.shape:
            raise SonoError(
                f"a mask of {mask.shape} on a frame of {gray.shape} (height, width); they must be "
                f"equal"
            )
        color = structure_color(structure)
        tinted = (1 - fill) * picture[mask] + fill * np.array(color)
        picture[mask] = tinted.round().astype(np.uint8)
        found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        outlines = [np.asarray(outline, np.int32) for outline in found]
        lines = _dashes(outlines, DASH * thickness) if proposed else outlines
        cv2.polylines(picture, lines, not proposed, color, thickness)
    return picture


def _dashes(outlines: Sequence[NDArray[np.int32]], length: int) -> list[NDArray[np.int32]]:
    """Every other piece of `length` points of each outline [points, 1, 2]."""
    return [
        outline[start : start + length]
        for outline in outlines
        for start in range(0, len(outline), 2 * length)
    ]


def contact_sheet(
    tiles: Sequence[tuple[NDArray[np.uint8], str]],
    columns: int,
    side: int,
    legend: Sequence[str] = (),
    structures: Sequence[Sequence[str]] = (),
) -> bytes:
    """A PNG of tiles, each letterboxed to `side` pixels, with a caption below.

    A tile is gray [H, W] or RGB [H, W, 3]. `structures` are the names of each tile's masks, written
    above its caption in as many lines as they need, with the color of each. The lines of `legend`
    are below all tiles, in as many lines as they need.
    """
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    font = _font()
    keys = [_lines_of_names(names, font, side) for names in structures or [()] * len(tiles)]
    lines = [
        len(key) + text.count("\n") + 1 for key, (_, text) in zip(keys, tiles, strict=True)
    ] or [1]
    heights = [
        side + SHEET_GAP + SHEET_LINE * max(lines[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    below = sum(heights)
    width = columns * (side + SHEET_GAP) - SHEET_GAP
    notes = [line for text in legend for line in _wrapped(text, font, width)]
    sheet = Image.new("RGB", (width, below + SHEET_LINE * len(notes)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, ((picture, text), key) in enumerate(zip(tiles, keys, strict=True)):
        row, column = divmod(index, columns)
        x, y = column * (side + SHEET_GAP), sum(heights[:row])
        sheet.paste(Image.fromarray(letterbox(picture, side)).convert("RGB"), (x, y))
        y += side + 2
        for names in key:
            _draw_names(draw, font, (x, y), names)
            y += SHEET_LINE
        for number, line in enumerate(text.split("\n")):
            place = (x, y + number * SHEET_LINE)
            ink = FAINT if number or key else INK
            draw.text(place, _fitting(line, font, side), fill=ink, font=font)
    for number, line in enumerate(notes):
        place = (0, below + number * SHEET_LINE)
        draw.text(place, _fitting(line, font, sheet.width), fill=INK, font=font)
    stream = BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _lines_of_names(
    names: Sequence[str], font: ImageFont.FreeTypeFont, width: int
) -> list[list[tuple[int, str]]]:
    """The names of structures in lines of at most `width` pixels, each with its place in x."""
    lines: list[list[tuple[int, str]]] = []
    end = width
    for name in names:
        length = SWATCH + 4 + round(font.getlength(name))
        if end + length > width:
            lines.append([])
            end = 0
        lines[-1].append((end, name))
        end += length + SHEET_GAP
    return lines


def _draw_names(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    place: tuple[int, int],
    names: Sequence[tuple[int, str]],
) -> None:
    """One line of structure names, each after a square of its color."""
    for shift, name in names:
        x, y = place[0] + shift, place[1]
        box = (x, y + 2, x + SWATCH - 1, y + 1 + SWATCH)
        draw.rectangle(box, fill=structure_color(name), outline=FAINT)
        draw.text((x + SWATCH + 4, y), name, fill=INK, font=font)


def _font() -> ImageFont.FreeTypeFont:
    """The font that matplotlib ships, so that a sheet looks the same everywhere."""
    import matplotlib as mpl

    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The words of `text` in lines of at most `width` pixels, if no word is wider."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "\u2026") > width:
        text = text[:-1]
    return text.rstrip() + "\u2026"
