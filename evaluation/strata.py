"""Top-1 in groups of frames and pairs of groups: machine, age, spacing, sector, mother, quality."""

from collections.abc import Iterator
from itertools import combinations, product
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
WORDS = {"machine": "machine", "sector_kind": "sector", "bmi_band": "BMI", "parity": "mothers"}
WITHOUT = "without code "
AGES = {"before 14 weeks": (0, 98), "14 to 27 weeks": (98, 196), "from 28 weeks": (196, 400)}


def stratum_results(scored: Scored, frames: pd.DataFrame, how: Draws) -> dict[str, Any]:
    """Top-1 macro and micro of whole frames in each group and pair of groups, and the worst ones.

    The groups of a property are shown if there are two of five patients each; `left_out` counts
    the smaller ones. A pair has five patients of both its groups, which are of different
    properties, and is neither of them; `pairs_left_out` counts the smaller ones. Worst is the
    lowest upper limit of micro Top-1; pairs are in this order.
    """
    truth = np.searchsorted(scored.compared, scored.truth)
    hits = top_k_hits(scored.scores["all_one"][:, scored.compared], truth, 1)
    shown, left_out = [], 0
    for groups in _properties(frames):
        large = {name: rows for name, rows in groups.items() if _is_large(rows, scored)}
        enough = len(large) > 1
        left_out += len(groups) - len(large) if enough or len(groups) == 1 else len(groups)
        shown += [large] if enough else []
    crossed = dict(_pairs(shown))
    pairs = {name: rows for name, rows in crossed.items() if _is_large(rows, scored)}
    found, crosses = (
        [_row(name, rows, hits, scored, how) for name, rows in named.items()]
        for named in ({name: rows for groups in shown for name, rows in groups.items()}, pairs)
    )
    return {
        "groups": found,
        "left_out": left_out,
        "worst": _worst(found),
        "pairs": sorted(crosses, key=_upper_limit),
        "pairs_left_out": len(crossed) - len(pairs),
        "worst_pair": _worst(crosses),
    }


def _is_large(rows: Rows, scored: Scored) -> bool:
    return len(np.unique(scored.clusters[rows])) >= MIN_PATIENTS


def _pairs(shown: list[dict[str, Rows]]) -> Iterator[tuple[str, Rows]]:
    """Frames that are in a group of each of two properties, except those without a code."""
    named = [[row for row in groups.items() if not row[0].startswith(WITHOUT)] for groups in shown]
    for first, second in combinations(named, 2):
        for (one, inside), (other, also) in product(first, second):
            both = inside & also
            if both.any() and (both != inside).any() and (both != also).any():
                yield f"{one}, {other}", both


def _upper_limit(row: dict[str, Any]) -> float:
    return float(row["top1_micro"]["high"])


def _worst(found: list[dict[str, Any]]) -> str | None:
    return str(min(found, key=_upper_limit)["group"]) if found else None


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
    for column, words in WORDS.items():
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
        yield _present({f"with code {code}": carried, f"{WITHOUT}{code}": ~carried})


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
