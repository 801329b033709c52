"""Figures of a data set as PNG bytes."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sono.curation.geometry import letterbox
from sono.curation.planes import REGIONS, PlaneTable
from sono.curation.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22272e"
FAINT = "#6b7480"
GRID = "#e6e8eb"
GA_COLOR = "#4c78a8"
NO_REGION = (150, 155, 162)
GA_WEEKS = (8, 42)  # of the axis, wider where the data are
MIN_BARS = 8  # places for bars, so that one plane does not fill the panel
DPI = 160
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#b5bbc2",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "sono",
}
# Colours of masks on a frame (RGB), used in turn.
MASK_COLORS = ((255, 196, 61), (73, 190, 255), (255, 105, 120), (121, 223, 130), (199, 146, 255), (255, 158, 87))
MASK_OPACITY = 0.22
SHEET_GAP, SHEET_LINE = 10, 15  # pixels between tiles, and of a line of words


def figure_planes_and_age(stats: Statistics, planes: PlaneTable) -> bytes:
    """A PNG: gestational age in completed weeks beside the planes by number of frames, in the colours of the regions.

    The layout is that of Figure 1b of SonoCLIP (arXiv 2606.29586). Planes without a frame are left out.
    """
    shown = _plane_bars(stats, planes)
    with _style():
        figure = _new_figure(11.0, max(3.4, 0.22 * len(shown) + 1.2))
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        _draw_age(left, stats)
        _draw_planes(right, shown)
        _region_legend(figure, {region for _, _, region in shown})
        return _png(figure)


def _plane_bars(stats: Statistics, planes: PlaneTable) -> list[tuple[str, int, str]]:
    """Label, frames and region of the planes that have frames, the most frequent first, then other and unknown."""
    rows = list(
        zip(stats.plane["plane"], stats.plane["name"], stats.plane["frames"], stats.plane["region"], strict=True)
    )
    inside = sorted((row for row in rows if row[0] in planes.by_id and row[2]), key=lambda row: -row[2])
    outside = [row for row in rows if row[0] not in planes.by_id and row[2]]
    return [(name, int(frames), region) for _, name, frames, region in (*inside, *outside)]


def _draw_age(axes: "Axes", stats: Statistics) -> None:
    from matplotlib.ticker import MaxNLocator

    weeks = stats.ga_weeks
    if not weeks:
        _title(axes, "Gestational age")
        _say(axes, "no gestational age is recorded")
        return
    axes.bar(list(weeks), list(weeks.values()), width=0.86, color=GA_COLOR, zorder=2)
    axes.set_xlim(min(GA_WEEKS[0], *weeks) - 0.8, max(GA_WEEKS[1], *weeks) + 0.8)
    axes.set_xlabel("completed weeks")
    axes.set_ylabel("frames")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=GRID, zorder=0)
    axes.tick_params(length=0)
    axes.set_xticks(range(GA_WEEKS[0], GA_WEEKS[1] + 1, 4))
    missing = int(stats.ga["missing"] or 0)
    known = f"{sum(weeks.values()):,} frames, median {stats.ga['median']:.1f} weeks"
    _title(axes, "Gestational age", f"{known}; {missing:,} without age" if missing else known)


def _draw_planes(axes: "Axes", bars: list[tuple[str, int, str]]) -> None:
    _title(axes, "Planes", "accepted frames")
    if not bars:
        _say(axes, "no accepted frames")
        return
    places = np.arange(len(bars))
    counts = [frames for _, frames, _ in bars]
    axes.barh(places, counts, height=0.74, color=[_region_color(region) for _, _, region in bars], zorder=2)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(f"{count:,}", (count, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(places, [label for label, _, _ in bars])
    axes.set_ylim(max(len(bars), MIN_BARS) - 0.4, -0.6)
    axes.set_xlim(0, max(counts) * 1.12)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])


def _region_legend(figure: "Figure", shown: set[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=_region_color(region), label=region) for region in REGIONS if region in shown]
    if "" in shown:
        handles.append(Patch(color=_region_color(""), label="no standard plane"))
    figure.legend(
        handles=handles,
        loc="outside lower right",
        ncols=len(REGIONS) + 1,
        frameon=False,
        fontsize=8.5,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.4,
        handletextpad=0.5,
    )


def _region_color(region: str) -> tuple[float, float, float]:
    red, green, blue = REGIONS.get(region, NO_REGION)
    return red / 255, green / 255, blue / 255


def _title(axes: "Axes", title: str, note: str = "") -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold")
    axes.annotate(note, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8.5, color=FAINT)


def _say(axes: "Axes", text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=FAINT, transform=axes.transAxes)


def _style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def _new_figure(width: float, height: float) -> "Figure":
    """A figure in inches that no window system ever sees (Agg, without pyplot's global state)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: "Figure") -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def overlay_masks(gray: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """The frame [H, W] as RGB [H, W, 3] with each mask [H, W] tinted and outlined in a colour of its own."""
    picture = np.repeat(gray[:, :, None], 3, axis=2)
    thickness = max(1, round(max(gray.shape) / 200))
    for index, mask in enumerate(masks):
        color = np.array(MASK_COLORS[index % len(MASK_COLORS)])
        tinted = (1 - MASK_OPACITY) * picture[mask] + MASK_OPACITY * color
        picture[mask] = tinted.round().astype(np.uint8)
        borders, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, borders, -1, color.tolist(), thickness)
    return picture


def contact_sheet(tiles: Sequence[tuple[NDArray[np.uint8], str]], columns: int, side: int) -> bytes:
    """A PNG of tiles, gray [H, W] or RGB [H, W, 3], each letterboxed to `side` pixels, with words below."""
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    step = side + SHEET_GAP + SHEET_LINE * max((text.count("\n") + 1 for _, text in tiles), default=1)
    sheet = Image.new("RGB", (columns * (side + SHEET_GAP) - SHEET_GAP, rows * step), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, (picture, text) in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = column * (side + SHEET_GAP), row * step
        sheet.paste(Image.fromarray(letterbox(picture, side)).convert("RGB"), (x, y))
        for number, line in enumerate(text.split("\n")):
            place = (x, y + side + 2 + number * SHEET_LINE)
            draw.text(place, _fitting(line, font, side), fill=FAINT if number else INK, font=font)
    stream = BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _font() -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings, so that a sheet looks the same everywhere."""
    import matplotlib as mpl

    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "\u2026") > width:
        text = text[:-1]
    return text.rstrip() + "\u2026"
