"""The probe of gestational age: ridge regression of frozen features, next to two baselines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sono.annotation.biometry import RULES, UnmeasuredError, measure
from sono.annotation.masks import pixels
from sono.curation.clinical.dating import DATINGS, days_from_size
from sono.evaluation.modes import usable_masks
from sono.evaluation.probes.measures import Found
from sono.evaluation.probes.parts import Part, rows_tested
from sono.evaluation.probes.study import Probe
from sono.evaluation.result_tables import Cell, ResultTable, Unit, exact
from sono.evaluation.statistics.bootstrap import NUMBER, Draws, Interval, clustered_interval
from sono.evaluation.strata import AGES

Reals = NDArray[np.floating]

DAYS = Unit("days", 1, ".1f", "in days")
ALPHAS = tuple(float(10**power) for power in range(-1, 6))  # penalties
NEIGHBORS = 10  # whose ages show how sure an answer is
COVERAGES = (1.0, 0.9, 0.8, 0.5)
MEASURES = ("mae", "bias", "sd", "low", "high")  # the limits hold 95 % of the errors
MARK = "Published models of images reach 3.0 days in the second and 4.3 in the third trimester."


def measure_age(probe: Probe) -> Found:
    """Errors in days by trimester, of the probe, its controls, and the baselines."""
    days = probe.frames["ga_days"].to_numpy(np.float64)
    rows = rows_tested(probe.parts)
    rng = np.random.default_rng(probe.settings.seed)
    answers = {
        "ridge": _each(probe, lambda part: ridge_answers(probe.used, days, part)),
        "median": _each(probe, lambda part: np.full(len(part.test), np.median(days[part.pool]))),
        "untrained_encoder": _each(probe, lambda part: ridge_answers(probe.untrained, days, part)),
        "shuffled_ages": _each(
            probe, lambda part: ridge_answers(probe.used, _shuffled(days, part, rng), part)
        ),
        "biometry": biometry_days(probe),
    }
    if np.isnan(answers["biometry"][rows]).all():
        del answers["biometry"]
    spread = _each(probe, lambda part: neighbor_spread(probe.used, days, part))
    groups = _groups(days, rows)
    if "biometry" in answers:
        groups["with biometry"] = rows[~np.isnan(answers["biometry"][rows])]
    found = {
        name: {
            title: row
            for title, inside in groups.items()
            if (row := _errors(values, days, inside, probe)) is not None
        }
        for name, values in answers.items()
    }
    coverage = _coverage(answers["ridge"], days, spread, rows)
    sources = probe.frames["ga_source"].fillna("unknown").value_counts()
    metrics = {
        "errors": found,
        "coverage": coverage,
        "age_sources": {str(name): int(count) for name, count in sources.items()},
    }
    tables = [
        ResultTable(name, ("method", "frames"), DAYS, _cells(found, name)) for name in MEASURES
    ]
    tables.append(
        ResultTable(
            "age_coverage",
            ("answered_percent", ""),
            DAYS,
            tuple(
                Cell(f"{100 * share:.0f}", "", exact(value), {})
                for share, value in coverage.items()
            ),
        )
    )
    return Found(metrics, tuple(tables), (_sentence(found), MARK))


def ridge_answers(features: Reals, days: Reals, part: Part) -> Reals:
    """The ages [tested] by ridge regression; the penalty is chosen on the validation rows."""

    def fitted(alpha: float, rows: NDArray[np.intp]) -> Any:
        model = make_pipeline(StandardScaler(), Ridge(alpha))
        return model.fit(features[rows], days[rows])

    errors = {
        alpha: np.abs(fitted(alpha, part.train).predict(features[part.val]) - days[part.val]).mean()
        for alpha in ALPHAS
    }
    best = min(ALPHAS, key=lambda alpha: (errors[alpha], -alpha))
    low, high = days[part.pool].min(), days[part.pool].max()
    answers = fitted(best, part.pool).predict(features[part.test])
    return np.asarray(np.clip(answers, low, high), np.float64)


def _shuffled(days: Reals, part: Part, rng: np.random.Generator) -> Reals:
    """The ages [n] with those that are fitted on in random order."""
    others = days.copy()
    others[part.pool] = rng.permutation(days[part.pool])
    return others


def neighbor_spread(features: Reals, days: Reals, part: Part) -> Reals:
    """The deviation [tested] of the ages of the most similar frames: the larger, the less sure."""
    scaled = Normalizer().transform(features)
    k = min(NEIGHBORS, len(part.pool))
    near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(scaled[part.pool])
    found = near.kneighbors(scaled[part.test], return_distance=False)
    return np.asarray(days[part.pool][found].std(axis=1), np.float64)


def biometry_days(probe: Probe) -> Reals:
    """The age [n] by Hadlock's formulas from accepted masks, their mean; NaN where none applies.

    Frames whose recorded age comes from such a measurement have none: it would confirm itself.
    """
    found = np.full(len(probe.frames), np.nan)
    masks = usable_masks(probe.workspace.masks(), probe.frames)
    groups = {str(name): group for name, group in masks.groupby("image_id")}
    for row, frame in enumerate(probe.frames.to_dict("records")):
        spacing = float(frame["row_spacing_mm"]), float(frame["col_spacing_mm"])
        own = groups.get(str(frame["image_id"]))
        if own is None or np.isnan(spacing).any() or frame["ga_source"] in DATINGS:
            continue
        days = [day for mask in own.to_dict("records") for day in _days(mask, frame, spacing)]
        if days:
            found[row] = float(np.mean(days))
    return found


def _days(
    mask: Mapping[Any, Any], frame: Mapping[Any, Any], spacing: tuple[float, float]
) -> list[int]:
    rule = RULES.get(str(mask["structure"]))
    if rule is None or frame["plane"] not in rule.planes:
        return []
    try:
        sizes = measure(pixels(mask), spacing, str(mask["structure"]))
    except UnmeasuredError:
        return []
    first = rule.measures[0]  # of a head its circumference alone
    days = days_from_size(first, sizes[first])
    return [] if days is None else [days]


def _each(probe: Probe, answer: Any) -> Reals:
    """The answers [n] of every part at its tested rows, else NaN."""
    found = np.full(len(probe.frames), np.nan)
    for part in probe.parts:
        found[part.test] = answer(part)
    return found


def _groups(days: Reals, rows: NDArray[np.intp]) -> dict[str, NDArray[np.intp]]:
    groups = {"all": rows}
    for name, (low, high) in AGES.items():
        groups[name] = rows[(days[rows] >= low) & (days[rows] < high)]
    return groups


def _errors(
    answers: Reals, days: Reals, rows: NDArray[np.intp], probe: Probe
) -> dict[str, Any] | None:
    """Mean absolute error, bias, deviation and 95 % limits of the answered rows."""
    rows = rows[~np.isnan(answers[rows])]
    if not len(rows):
        return None
    errors = answers[rows] - days[rows]
    own = np.unique(probe.clusters[rows], return_inverse=True)[1]
    sd = float(errors.std(ddof=1)) if len(rows) > 1 else None
    bias = float(errors.mean())
    return {
        "images": len(rows),
        "clusters": len(np.unique(own)),
        "mae": _mean(np.abs(errors), own, probe.draws),
        "bias": _mean(errors, own, probe.draws),
        "sd": sd,
        "low": None if sd is None else bias - 1.96 * sd,
        "high": None if sd is None else bias + 1.96 * sd,
    }


def _mean(values: Reals, clusters: NDArray[np.integer], how: Draws) -> dict[str, float | None]:
    classes = np.zeros(len(values), np.int64)
    return clustered_interval(values, classes, clusters, NUMBER, how).as_dict()


def _coverage(
    answers: Reals, days: Reals, spread: Reals, rows: NDArray[np.intp]
) -> dict[float, float]:
    """The mean absolute error of the surest answers, by their share."""
    order = rows[np.argsort(spread[rows], kind="stable")]
    errors = np.abs(answers[order] - days[order])
    return {share: float(errors[: max(1, round(share * len(rows)))].mean()) for share in COVERAGES}


def _cells(found: Mapping[str, Mapping[str, Mapping[str, Any]]], name: str) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            method,
            title,
            Interval.from_dict(row[name]) if isinstance(row[name], dict) else exact(row[name]),
            {"frames": row["images"], "patients": row["clusters"]},
        )
        for method, groups in found.items()
        for title, row in groups.items()
    )


def _sentence(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    own = {
        name: DAYS.text(Interval.from_dict(groups["all"]["mae"]))
        for name, groups in found.items()
        if name != "biometry"
    }
    return (
        f"The age is read with a mean absolute error of {own['ridge']} days; the median of the "
        f"training frames has {own['median']}, an untrained encoder {own['untrained_encoder']}, "
        f"shuffled ages {own['shuffled_ages']}."
    )
