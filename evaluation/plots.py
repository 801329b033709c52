"""Figures of the report: diagrams as SVG bytes, frames with mask outlines as PNG bytes."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.geometry import letterbox
from sono.evaluation.statistics.bootstrap import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, MUTED = "#1d2b36", "#2f6f9f", "#8a97a3"
RIGHT, WRONG = "#2f9e5b", "#d0482f"
OUTLINES = {"proposed": (240, 176, 48), "annotated": (64, 200, 220)}  # RGB


def confusion_plot(matrix: NDArray[np.integer], names: Sequence[str], title: str) -> bytes:
    """The confusion matrix with row-normalized colors and counts in the cells.

    `matrix` [classes, classes + 1]; the last column counts undecided answers.
    """
    from matplotlib.figure import Figure

    undecided = bool(matrix[:, -1].any())
    shown = matrix if undecided else matrix[:, :-1]
    share = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.42 * len(names)
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.subplots()
    colors = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    columns = [*names, "undecided"] if undecided else list(names)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answer", fontsize=9, color=INK)
    axes.set_ylabel("truth", fontsize=9, color=INK)
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    for (row, column), count in np.ndenumerate(shown):
        if count:
            color = "white" if share[row, column] > 0.55 else INK
            axes.text(column, row, str(count), ha="center", va="center", fontsize=9, color=color)
    hide_frame(axes)
    legend = figure.colorbar(colors, ax=axes, shrink=0.6, aspect=20, format="{x:.0%}")
    legend.set_label("share of the plane's frames", fontsize=9, color=INK)
    hide_frame(legend.ax)
    return svg(figure)


def modes_plot(
    groups: Mapping[str, Mapping[str, Interval]], constant: Sequence[float], metric: str
) -> bytes:
    """`metric` of each mode in percent, with its interval, and the best constant answer.

    One panel per set of images; a mode has the same row in all of them.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = max((list(modes) for modes in groups.values()), key=len)
    size = (4.6 * len(groups), 1.5 + 0.3 * len(rows))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.08))
    panels = np.atleast_1d(figure.subplots(1, len(groups), sharex=True, sharey=True))
    for axes, (title, modes), line in zip(panels, groups.items(), constant, strict=True):
        for mode, interval in modes.items():
            place = rows.index(mode)
            low, high = np.nan_to_num([interval.low, interval.high], nan=interval.point)
            axes.plot(
                [100 * low, 100 * high],
                [place, place],
                color=ACCENT,
                linewidth=2.5,
                solid_capstyle="round",
            )
            axes.plot(100 * interval.point, place, "o", color=ACCENT, markersize=6)
        axes.axvline(100 * line, color=MUTED, linewidth=1, linestyle="--")
        axes.annotate(
            "best constant answer",
            (100 * line, 1),
            (3, -9),
            ("data", "axes fraction"),
            "offset points",
            fontsize=7,
            color=MUTED,
        )
        axes.set_yticks(range(len(rows)), [mode.replace("_", " ") for mode in rows])
        axes.set(xlim=(-2, 102), ylim=(len(rows) - 0.4, -0.9))
        axes.set_xlabel(f"{metric}, percent", fontsize=9, color=INK)
        axes.set_title(title, loc="left", color=INK, fontsize=10)
        hide_frame(axes)
    return svg(figure)


def frame_card(
    gray: NDArray[np.uint8], masks: Mapping[str, NDArray[np.bool_]], side: int = 256
) -> bytes:
    """The frame [H, W] as a square PNG with mask outlines in the color of their kind.

    Masks are [side, side].
    """
    picture = cv2.cvtColor(letterbox(gray, side), cv2.COLOR_GRAY2RGB)
    for kind, mask in masks.items():
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, contours, -1, OUTLINES[kind], 1)
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


@dataclass(frozen=True)
class Panel:
    """A frame [H, W] with one mask [S, S], the structure it marks, and the model's answer."""

    gray: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    truth: str
    answer: str

    @property
    def color(self) -> str:
        """Green for a right answer, red for a wrong one."""
        return RIGHT if self.answer == self.truth else WRONG


def region_plot(frames: Mapping[str, Sequence[Panel]], across: int = 2) -> bytes:
    """Each frame under each of its masks, with the answer below it.

    `frames` are by title, `across` of them in one row.
    """
    from matplotlib.figure import Figure

    across = min(across, len(frames))
    most = max(len(panels) for panels in frames.values())
    # a gap after each frame
    rows, widths = -(-len(frames) // across), [*([1.0] * most), 0.12] * across
    figure = Figure(figsize=(1.7 * sum(widths), 2.35 * rows))
    place = {
        "left": 0.0,
        "right": 1.0,
        "top": 1 - 0.25 / figure.get_figheight(),
        "bottom": 0.45 / figure.get_figheight(),
    }
    grid = figure.subplots(
        rows,
        len(widths),
        squeeze=False,
        gridspec_kw={"width_ratios": widths, "wspace": 0.04, "hspace": 0.4, **place},
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (title, panels) in enumerate(frames.items()):
        row, block = divmod(number, across)
        first = block * (most + 1)
        grid[row, first].set_title(title, loc="left", color=INK, fontsize=9)
        for step, panel in enumerate(panels):
            _draw_panel(grid[row, first + step], panel)
    return png(figure)


def _draw_panel(axes: "Axes", panel: Panel, side: int = 256) -> None:
    picture = cv2.cvtColor(letterbox(panel.gray, side), cv2.COLOR_GRAY2RGB)
    mask = cv2.resize(panel.mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    color = tuple(int(panel.color[start : start + 2], 16) for start in (1, 3, 5))
    cv2.drawContours(picture, contours, -1, color, 2)
    axes.imshow(picture)
    right = panel.answer == panel.truth
    axes.text(0, 1.03 * side, panel.answer, va="top", fontsize=8, color=panel.color, weight="bold")
    axes.text(
        0,
        1.13 * side,
        "correct" if right else f"truth: {panel.truth}",
        va="top",
        fontsize=7,
        color=MUTED,
    )


def hide_frame(axes: "Axes") -> None:
    """Remove the box and the ticks of a diagram."""
    axes.tick_params(length=0, labelsize=9, colors=INK)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def svg(figure: "Figure") -> bytes:
    """The diagram as SVG with its texts as texts, the same bytes for the same numbers."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    _without_formulas(figure)
    with mpl.rc_context({"svg.hashsalt": "sono", "svg.fonttype": "none"}):
        figure.savefig(
            buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None}
        )
    return buffer.getvalue()


def png(figure: "Figure") -> bytes:
    """The figure as PNG, without a name of the program in it."""
    buffer = io.BytesIO()
    _without_formulas(figure)
    figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _without_formulas(figure: "Figure") -> None:
    """Let dollar signs in the names of centers, machines and planes be letters."""
    from matplotlib.text import Text

    for part in figure.findobj():
        if isinstance(part, Text):
            part.set_parse_math(False)
