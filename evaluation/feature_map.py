"""The map of the feature space: frames and captions on its first two principal axes, as SVG."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sono.curation.core.atomic import sha256
from sono.curation.core.drawing import structure_color
from sono.evaluation.plots import INK, MUTED, hide_frame, svg
from sono.evaluation.statistics.metrics import Reals
from sono.evaluation.statistics.retrieval import principal_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 1000  # frames drawn, by the hash of their ids
MOST_GROUPS = 24  # in the legend, the largest; others are gray
OTHERS, UNKNOWN = "others", "unknown"


def feature_map(
    images: Reals, texts: Reals, image_ids: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> bytes:
    """One panel per grouping of frames, such as plane, center and machine, with captions in gray.

    `images` [n, d] and `texts` [m, d] are unit features; `groups` are the names [n] of the groups
    of the frames, by title. The axes are those of frames and captions together.
    """
    from matplotlib.figure import Figure

    mean, axes, shares = principal_axes(np.concatenate([images, texts]))
    order = sorted(range(len(images)), key=lambda row: sha256(image_ids[row].encode()))[:MOST]
    points, captions = (images[order] - mean) @ axes.T, (texts - mean) @ axes.T
    figure = Figure(figsize=(4.2 * len(groups), 5.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(groups), sharex=True, sharey=True))
    for panel, (title, names) in zip(panels, groups.items(), strict=True):
        x, y = captions.T
        panel.scatter(x, y, s=14, color=MUTED, marker="x", linewidths=0.6)
        _draw(panel, points, [names[row] for row in order])
        panel.set_title(title, loc="left", fontsize=10, color=INK)
        panel.set_xlabel(f"axis 1 ({100 * shares[0]:.0f} % of the variance)", fontsize=8)
        hide_frame(panel)
    panels[0].set_ylabel(f"axis 2 ({100 * shares[1]:.0f} %)", fontsize=8, color=INK)
    return svg(figure)


def _draw(panel: "Axes", points: Reals, names: Sequence[str]) -> None:
    """The frames of each group in its color, with a legend below."""
    common = [name for name, _ in Counter(names).most_common(MOST_GROUPS)]
    shown = [name if name in common else OTHERS for name in names]
    for name in sorted(set(shown), key=lambda name: (name in (OTHERS, UNKNOWN), name)):
        rows = [row for row, own in enumerate(shown) if own == name]
        color = "#b5bbc2" if name in (OTHERS, UNKNOWN) else _color(name)
        x, y = points[rows].T
        panel.scatter(x, y, s=9, color=color, linewidths=0, alpha=0.75, label=name)
    panel.legend(
        fontsize=7.5,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=2,
        handletextpad=0.1,
        columnspacing=0.8,
        markerscale=1.6,
    )


def _color(name: str) -> tuple[float, ...]:
    """A color by name, dark enough for white paper."""
    return tuple(0.8 * part / 255 for part in structure_color(name))
