"""Figures of probabilities as PNG bytes: the reliability of confidences, and risk by coverage."""

from collections.abc import Mapping
from typing import Any

from sono.evaluation.plots import ACCENT, INK, MUTED, hide_frame, svg

COLORS = {"training": MUTED, "fitted": ACCENT}
LABELS = {"training": "temperature of training", "fitted": "fitted temperature"}
PERFECT = "perfect calibration"


def curves(reliability: Mapping[str, list[dict[str, float]]]) -> dict[str, list[dict[str, float]]]:
    """The curves that differ: that of the fitted temperature is left out if it is the same."""
    kept = {"training": reliability["training"]}
    return kept | {
        name: bins for name, bins in reliability.items() if bins != reliability["training"]
    }


def probabilities_plot(found: Mapping[str, Any]) -> bytes:
    """Accuracy by confidence, and the share of wrong answers by the share that is answered.

    `found` are the results of `probability_results`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle="--", label=PERFECT)
    for name, bins in curves(found["reliability"]).items():
        places = [100 * each["confidence"] for each in bins]
        heights = [100 * each["accuracy"] for each in bins]
        sizes = [8 + 160 * each["count"] / found["frames"] for each in bins]
        left.plot(places, heights, color=COLORS[name], linewidth=1.5, label=LABELS[name])
        left.scatter(places, heights, sizes, color=COLORS[name])
    left.set(xlim=(-3, 103), ylim=(-3, 103))
    left.set_xlabel("confidence, percent", fontsize=9, color=INK)
    left.set_ylabel("right answers, percent", fontsize=9, color=INK)
    left.set_title("Reliability", loc="left", fontsize=10, color=INK)
    left.legend(fontsize=8, frameon=False, loc="upper left")
    coverage = [int(each) for each in found["risk"]]
    risk = [100 * each for each in found["risk"].values()]
    right.plot(coverage, risk, "o-", color=ACCENT, linewidth=1.5, markersize=4)
    right.set(xlim=(0, 103), ylim=(0, max(5.0, 1.15 * max(risk))))
    right.set_xlabel("answered, most confident first, percent", fontsize=9, color=INK)
    right.set_ylabel("wrong answers, percent", fontsize=9, color=INK)
    right.set_title("Risk by coverage", loc="left", fontsize=10, color=INK)
    for axes in (left, right):
        hide_frame(axes)
    return svg(figure)
