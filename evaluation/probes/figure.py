"""The curve of the few-shot probe as SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sono.evaluation.plots import ACCENT, INK, MUTED, RIGHT, WRONG, hide_frame, svg
from sono.evaluation.probes.few_shot import PATIENTS

COLORS = {"linear": ACCENT, "prototypes": RIGHT, "blend": WRONG}
NAMES = {"linear": "linear probe", "prototypes": "prototypes", "blend": "blend"}


def few_shot_figure(
    rows: Sequence[Mapping[str, Any]], zero_shot: float | None, chance: float
) -> bytes:
    """Macro Top-1 by number of patients, with the standard deviation over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    patients = [row["patients"] for row in rows]
    for name in rows[0]["methods"]:
        if name not in COLORS:
            continue
        mean, sd = (
            100 * np.array([row["methods"][name][key] for row in rows]) for key in ("mean", "sd")
        )
        axes.plot(patients, mean, "o-", color=COLORS[name], label=NAMES[name], markersize=4)
        axes.fill_between(patients, mean - sd, mean + sd, color=COLORS[name], alpha=0.15, lw=0)
    for value, words, style in ((zero_shot, "zero-shot", "--"), (chance, "chance", ":")):
        if value is not None:
            axes.axhline(100 * value, color=MUTED, linewidth=1.2, linestyle=style, label=words)
    axes.set_xscale("log", base=2)
    ticks = [number for number in PATIENTS if number <= max(patients)]
    axes.set_xticks(ticks, [str(number) for number in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 102)
    axes.set_xlabel("patients, with those for validation", fontsize=9, color=INK)
    axes.set_ylabel("macro Top-1, percent", fontsize=9, color=INK)
    axes.legend(fontsize=8, frameon=False)
    hide_frame(axes)
    return svg(figure)
