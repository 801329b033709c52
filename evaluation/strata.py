"""Top-1 in groups of frames: machine, age, pixel spacing, sector shape, and quality codes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.evaluation.statistics.bootstrap import Draws, clustered_intervals, macro, micro
from sono.evaluation.statistics.bootstrap import Sample as Frames
from sono.evaluation.statistics.metrics import top_k_hits
from sono.evaluation.summaries import Scored

Rows = NDArray[np.bool_]

MIN_PATIENTS = 5  # of a group that is shown
AGES = {"before 14 weeks": (0, 98), "14 to 27 weeks": (98, 196), "from 28 weeks": (196, 400)}


def stratum_results(scored: Scored, frames: pd.DataFrame, how: Draws) -> dict[str, Any]:
    """Top-1 macro and micro of whole frames in each group, and the worst group.

    The groups of a property are shown if there are two of five patients each; `left_out` counts
    the smaller ones. The worst group is that with the lowest upper limit of micro Top-1.
    """
    truth = np.searchsorted(scored.compared, scored.truth)
    hits = top_k_hits(scored.scores["all_one"][:, scored.compared], truth, 1)
    found, left_out = [], 0
    for groups in _properties(frames):
        large = {
            name: rows
            for name, rows in groups.items()
            if len(np.unique(scored.clusters[rows])) >= MIN_PATIENTS
        }
        left_out += len(groups) - len(large)
        if len(large) > 1:
            found += [_row(name, rows, hits, scored, how) for name, rows in large.items()]
        else:
            left_out += len(large) if len(groups) > 1 else 0
    worst = min(found, key=lambda row: row["top1_micro"]["high"], default=None)
    return {
        "groups": found,
        "left_out": left_out,
        "worst": None if worst is None else worst["group"],
    }


def _row(name: str, rows: Rows, hits: Rows, scored: Scored, how: Draws) -> dict[str, Any]:
    classes, clusters = (
        np.unique(each[rows], return_inverse=True)[1] for each in (scored.truth, scored.clusters)
    )
    sample = Frames(hits[rows].astype(np.float64)[:, None], classes, clusters)
    measured = clustered_intervals(sample, {"top1_macro": macro(), "top1_micro": micro()}, how)
    sizes = {"group": name, "images": int(rows.sum()), "clusters": len(np.unique(clusters))}
    return sizes | {key: interval.as_dict() for key, interval in measured.items()}


def _properties(frames: pd.DataFrame) -> Iterator[dict[str, Rows]]:
    """The groups of each property; frames without the property are in none of them."""
    for column, words in {"machine": "machine", "sector_kind": "sector"}.items():
        values = frames[column].dropna()
        yield {f"{words} {value}": _true(frames[column] == value) for value in sorted(set(values))}
    ages = frames["ga_days"].astype("Float64")
    yield _present(
        {name: _true((ages >= low) & (ages < high)) for name, (low, high) in AGES.items()}
    )
    yield _thirds(frames["row_spacing_mm"].astype(np.float64))
    codes = [frozenset(each) if each is not None else frozenset() for each in frames["reasons"]]
    for code in sorted(set().union(*codes)):
        carried = np.array([code in each for each in codes], np.bool_)
        yield _present({f"with {code}": carried, f"without {code}": ~carried})


def _thirds(spacing: "pd.Series[float]") -> dict[str, Rows]:
    """Three groups of equal size by pixel spacing; none if a third has one value."""
    low, high = spacing.quantile([1 / 3, 2 / 3])
    if not low < high < spacing.max():
        return {}
    return {
        f"pixels up to {low:.3f} mm": _true(spacing <= low),
        f"pixels of {low:.3f} to {high:.3f} mm": _true((spacing > low) & (spacing <= high)),
        f"pixels above {high:.3f} mm": _true(spacing > high),
    }


def _present(groups: dict[str, Rows]) -> dict[str, Rows]:
    return {name: rows for name, rows in groups.items() if rows.any()}


def _true(values: Any) -> Rows:
    return np.asarray(values.fillna(False), np.bool_)
