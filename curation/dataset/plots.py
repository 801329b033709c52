"""Figures of a dataset as PNG bytes."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sono.curation.core.drawing import FAINT, INK
from sono.curation.core.planes import NO_PLANE, REGIONS, PlaneTable
from sono.curation.dataset.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def figure_planes_and_age(stats: Statistics, planes: PlaneTable) -> bytes:
    """A PNG of gestational age in completed weeks, and of planes by number of frames.

    Bars have the colors of the regions, as in Figure 1b of SonoCLIP (arXiv 2606.29586). Planes
    without frames are omitted.
    """
    shown = _plane_bars(stats, planes)
    with style():
        figure = new_figure(11.0, max(3.4, 0.22 * len(shown) + 1.2))
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        _draw_age(left, stats)
        _draw_planes(right, shown)
        _region_legend(figure, {region for _, _, region in shown})
        return png_of(figure)


def _plane_bars(stats: Statistics, planes: PlaneTable) -> list[tuple[str, int, str]]:
    """Label, frames and region of planes with frames, the most frequent first, other last."""
    rows = list(
        zip(
            stats.plane["plane"],
            stats.plane["name"],
            stats.plane["frames"],
            stats.plane["region"],
            strict=True,
        )
    )
    inside = sorted(
        (row for row in rows if row[0] in planes.by_id and row[2]), key=lambda row: -row[2]
    )
    outside = [row for row in rows if row[0] not in planes.by_id and row[2]]
    return [(name, int(frames), region) for _, name, frames, region in (*inside, *outside)]


def _draw_age(axes: "Axes", stats: Statistics) -> None:
    from matplotlib.ticker import MaxNLocator

    weeks = stats.ga_weeks
    if not weeks:
        title_axes(axes, "Gestational age")
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
    title_axes(axes, "Gestational age", f"{known}; {missing:,} without age" if missing else known)


def _draw_planes(axes: "Axes", bars: list[tuple[str, int, str]]) -> None:
    title_axes(axes, "Planes", "accepted frames")
    if not bars:
        _say(axes, "no accepted frames")
        return
    colors = [_region_color(region) for _, _, region in bars]
    draw_bars(axes, [(label, frames) for label, frames, _ in bars], colors)


def draw_bars(axes: "Axes", bars: Sequence[tuple[str, int]], colors: Sequence[Any]) -> None:
    """Draw horizontal bars with their labels and counts, from top to bottom."""
    places, counts = list(range(len(bars))), [count for _, count in bars]
    axes.barh(places, counts, height=0.74, color=colors, zorder=2)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(
            f"{count:,}",
            (count, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, [label for label, _ in bars])
    axes.set_ylim(max(len(bars), MIN_BARS) - 0.4, -0.6)
    axes.set_xlim(0, max(counts, default=1) * 1.12)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])


def _region_legend(figure: "Figure", shown: set[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=_region_color(region), label=region) for region in REGIONS if region in shown
    ]
    if "" in shown:
        handles.append(Patch(color=_region_color(""), label=f"{NO_PLANE}, or unknown"))
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


def title_axes(axes: "Axes", title: str, note: str = "") -> None:
    """Write a title, and a note below it."""
    axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold")
    axes.annotate(note, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8.5, color=FAINT)


def _say(axes: "Axes", text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=FAINT, transform=axes.transAxes)


def style() -> Any:
    """The style of all figures, for a `with` block."""
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def new_figure(width: float, height: float) -> "Figure":
    """A figure of a size in inches, drawn by Agg without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: "Figure") -> bytes:
    """The picture of a figure."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()
