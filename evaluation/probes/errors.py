"""Errors of numbers, such as days or mm: mean absolute error, bias, deviation and 95 % limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.result_tables import Cell, exact
from sono.evaluation.statistics.bootstrap import NUMBER, Draws, Interval, clustered_interval

Reals = NDArray[np.floating]

MEASURES = ("mae", "bias", "sd", "low", "high")  # the limits hold 95 % of the errors


def error_summary(errors: Reals, clusters: NDArray[np.integer], how: Draws) -> dict[str, Any]:
    """The `MEASURES` of errors [n], and the number of frames and patients."""
    own = np.unique(clusters, return_inverse=True)[1]
    sd = float(errors.std(ddof=1)) if len(errors) > 1 else None
    bias = float(errors.mean())
    return {
        "images": len(errors),
        "clusters": int(own.max()) + 1,
        "mae": mean_interval(np.abs(errors), own, how).as_dict(),
        "bias": mean_interval(errors, own, how).as_dict(),
        "sd": sd,
        "low": None if sd is None else bias - 1.96 * sd,
        "high": None if sd is None else bias + 1.96 * sd,
    }


def mean_interval(values: Reals, clusters: NDArray[np.integer], how: Draws) -> Interval:
    """The mean of values [n], with an interval over patients."""
    return clustered_interval(values, np.zeros(len(values), np.int64), clusters, NUMBER, how)


def error_cell(row: str, column: str, found: Mapping[str, Any], name: str) -> Cell:
    """One of the `MEASURES` as a cell of a table."""
    value, counts = found[name], {"frames": found["images"], "patients": found["clusters"]}
    shown = Interval.from_dict(value) if isinstance(value, dict) else exact(value)
    return Cell(row, column, shown, counts)
