"""The probe of gestational age: ridge regression of frozen features, next to two baselines."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sono.annotation.biometry import RULES, UnmeasuredError
from sono.annotation.masks import pixels
from sono.annotation.measure_masks import sizes_of
from sono.curation.clinical.dating import DATINGS, days_from_size
from sono.evaluation.modes import usable_masks
from sono.evaluation.probes.age_prompts import PromptAges, prompt_ages
from sono.evaluation.probes.errors import MEASURES, error_cell, error_summary
from sono.evaluation.probes.measures import Found
from sono.evaluation.probes.parts import Part, rows_tested, shuffled
from sono.evaluation.probes.study import Probe
from sono.evaluation.result_tables import Cell, ResultTable, Unit, exact
from sono.evaluation.statistics.bootstrap import Interval
from sono.evaluation.strata import AGES

Reals = NDArray[np.floating]

DAYS = Unit("days", 1, ".1f", "in days")
ALPHAS = tuple(float(10**power) for power in range(-1, 6))  # penalties
NEIGHBORS = 10  # whose ages show how sure an answer is
COVERAGES = (1.0, 0.9, 0.8, 0.5)
PROMPTS = {"prompts": False, "prompts_with_plane": True}  # whether they name the plane
MARK = "Published models of images reach 3.0 days in the second and 4.3 in the third trimester."


def measure_age(probe: Probe) -> Found:
    """Errors in days by trimester, of the probe, of prompts, their controls, and the baselines."""
    days = probe.frames["ga_days"].to_numpy(np.float64)
    rows = rows_tested(probe.parts)
    rng = np.random.default_rng(probe.settings.seed)
    answers = {
        "ridge": _each(probe, lambda part: ridge_answers(probe.used, days, part)),
        "median": _each(probe, lambda part: np.full(len(part.test), np.median(days[part.pool]))),
        "untrained_encoder": _each(probe, lambda part: ridge_answers(probe.untrained, days, part)),
        "shuffled_ages": _each(
            probe, lambda part: ridge_answers(probe.used, shuffled(days, part, rng), part)
        ),
        "biometry": biometry_days(probe),
    }
    unsure = {"ridge": _each(probe, lambda part: neighbor_spread(probe.used, days, part))}
    prompts = _by_prompts(probe)
    for name, found in prompts.items():
        answers[name] = _each(probe, lambda part, found=found: found.answers(days, part)[0])
        if name in PROMPTS:
            unsure[name] = _each(probe, lambda part, found=found: found.answers(days, part)[1])
    if np.isnan(answers["biometry"][rows]).all():
        del answers["biometry"]
    groups = _groups(days, rows)
    if "biometry" in answers:
        groups["with biometry"] = rows[~np.isnan(answers["biometry"][rows])]
    errors = {
        name: {
            title: row
            for title, inside in groups.items()
            if (row := _errors(values, days, inside, probe)) is not None
        }
        for name, values in answers.items()
    }
    coverage = {
        name: _coverage(answers[name], days, spread, rows) for name, spread in unsure.items()
    }
    permuted = {
        name: _permuted(ages, days, probe) for name, ages in prompts.items() if name in PROMPTS
    }
    sources = probe.frames["ga_source"].fillna("unknown").value_counts()
    metrics = {
        "errors": errors,
        "coverage": coverage,
        "shuffled_prompts": permuted,
        "age_sources": {str(name): int(count) for name, count in sources.items()},
    }
    tables = [
        ResultTable(name, ("method", "frames"), DAYS, _cells(errors, name)) for name in MEASURES
    ]
    tables.append(
        ResultTable("age_coverage", ("answered_percent", "method"), DAYS, _coverage_cells(coverage))
    )
    return Found(metrics, tuple(tables), tuple(_sentences(errors, permuted)))


def _by_prompts(probe: Probe) -> dict[str, PromptAges]:
    """The ages by prompts, also of an untrained encoder; none without a text tower."""
    embedded = probe.features.embedded
    found = {name: prompt_ages(probe, embedded, named) for name, named in PROMPTS.items()}
    if any(ages is not None for ages in found.values()):
        random = probe.untrained_features.embedded
        found["prompts_untrained"] = prompt_ages(probe, random, with_plane=True)
    return {name: ages for name, ages in found.items() if ages is not None}


def _permuted(ages: PromptAges, days: Reals, probe: Probe) -> dict[str, Any]:
    """The mean error of prompts with each other's ages, and the share of them as good."""
    own = ages.error(days, probe.parts)
    others = ages.permuted_errors(days, probe.parts, probe.settings.seed)
    as_good = 1 + int(np.sum(np.array(others) <= own))
    return {
        "mae": float(np.mean(others)),
        "p_value": as_good / (1 + len(others)),
        "permutations": len(others),
    }


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
    structure = str(mask["structure"])
    try:
        sizes = sizes_of(pixels(mask), structure, frame["plane"], spacing)
    except UnmeasuredError:
        return []
    first = RULES[structure].measures[0]  # of a head its circumference alone
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
    """The errors of the answered rows."""
    rows = rows[~np.isnan(answers[rows])]
    if not len(rows):
        return None
    return error_summary(answers[rows] - days[rows], probe.clusters[rows], probe.draws)


def _coverage(
    answers: Reals, days: Reals, spread: Reals, rows: NDArray[np.intp]
) -> dict[float, float]:
    """The mean absolute error of the surest answers, by their share."""
    order = rows[np.argsort(spread[rows], kind="stable")]
    errors = np.abs(answers[order] - days[order])
    return {share: float(errors[: max(1, round(share * len(rows)))].mean()) for share in COVERAGES}


def _coverage_cells(coverage: Mapping[str, Mapping[float, float]]) -> tuple[Cell, ...]:
    return tuple(
        Cell(f"{100 * share:.0f}", method, exact(value), {})
        for method, shares in coverage.items()
        for share, value in shares.items()
    )


def _cells(found: Mapping[str, Mapping[str, Mapping[str, Any]]], name: str) -> tuple[Cell, ...]:
    return tuple(
        error_cell(method, title, row, name)
        for method, groups in found.items()
        for title, row in groups.items()
    )


def _sentences(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]], permuted: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    own = {
        name: DAYS.text(Interval.from_dict(groups["all"]["mae"]))
        for name, groups in found.items()
        if name != "biometry"
    }
    yield (
        f"The age is read with a mean absolute error of {own['ridge']} days; the median of the "
        f"training frames has {own['median']}, an untrained encoder {own['untrained_encoder']}, "
        f"shuffled ages {own['shuffled_ages']}."
    )
    for name, row in permuted.items():
        plane = " that also name the plane" * PROMPTS[name]
        known = "know" if row["p_value"] < 0.05 else "are not shown to know"
        yield (
            f"Prompts{plane} {known} the age: {own[name]} days; with each other's ages "
            f"{row['mae']:.1f} (p = {row['p_value']:.3f})."
        )
    yield MARK
