"""Frames as pictures for people: masks drawn on them, and contact sheets."""

import colorsys
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sono.curation.core.atomic import sha256
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import letterbox

# The lines of masks, for the legend of a sheet.
LEGEND = (
    "\u2501\u2501\u2501\u2501 accepted or edited mask",
    "\u2501 \u2501 \u2501 proposed mask: not reviewed",
)
DASH = 10  # thicknesses of a line in a dash, and in a gap

FILL = 0.15  # share of the structure's color inside its outline
INK, FAINT = "#22272e", "#6b7480"
SHEET_GAP, SHEET_LINE = 10, 15  # pixels between tiles, and of a line of words


class DrawnMask(NamedTuple):
    """A mask [H, W] of a structure to draw; a proposal has a dashed outline."""

    structure: str
    mask: NDArray[np.bool_]
    proposed: bool = False


def structure_color(structure: str) -> tuple[int, int, int]:
    """A bright RGB color that depends on the name alone."""
    hue = int(sha256(structure.encode())[:8], 16) / 2**32
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(gray: NDArray[np.uint8], masks: Sequence[DrawnMask]) -> NDArray[np.uint8]:
    """A frame [H, W] as RGB [H, W, 3], with each mask tinted and outlined."""
    picture = np.repeat(gray[..., None], 3, axis=2)
    thickness = max(1, round(max(gray.shape) / 300))
    for structure, mask, proposed in masks:
        if mask.shape != gray.shape:
            raise SonoError(
                f"a mask of {mask.shape} on a frame of {gray.shape} (height, width); they must be "
                f"equal"
            )
        color = structure_color(structure)
        tinted = (1 - FILL) * picture[mask] + FILL * np.array(color)
        picture[mask] = tinted.round().astype(np.uint8)
        found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outlines = [np.asarray(points, np.int32) for points in found]
        if proposed:
            lines, closed = _dashes(outlines, DASH * thickness), False
        else:
            lines, closed = outlines, True
        cv2.polylines(picture, lines, closed, color, thickness)
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
) -> bytes:
    """A PNG of tiles, each letterboxed to `side` pixels, with a caption below.

    A tile is gray [H, W] or RGB [H, W, 3]. The lines of `legend` are below all tiles.
    """
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    step = (
        side + SHEET_GAP + SHEET_LINE * max((text.count("\n") + 1 for _, text in tiles), default=1)
    )
    height = rows * step + SHEET_LINE * len(legend)
    sheet = Image.new("RGB", (columns * (side + SHEET_GAP) - SHEET_GAP, height), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, (picture, text) in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = column * (side + SHEET_GAP), row * step
        sheet.paste(Image.fromarray(letterbox(picture, side)).convert("RGB"), (x, y))
        for number, line in enumerate(text.split("\n")):
            place = (x, y + side + 2 + number * SHEET_LINE)
            draw.text(place, _fitting(line, font, side), fill=FAINT if number else INK, font=font)
    for number, line in enumerate(legend):
        place = (0, rows * step + number * SHEET_LINE)
        draw.text(place, _fitting(line, font, sheet.width), fill=INK, font=font)
    stream = BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _font() -> ImageFont.FreeTypeFont:
    """The font that matplotlib ships, so that a sheet looks the same everywhere."""
    import matplotlib as mpl

    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "\u2026") > width:
        text = text[:-1]
    return text.rstrip() + "\u2026"
