"""The probe of biometry: sizes and ages from predicted masks, against accepted masks and records.

No encoder takes part. Baselines are the median of the frames to fit on, and the growth standard.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.annotation.biometry import RULES, UnmeasuredError
from sono.annotation.growth import DAYS as STANDARD_DAYS
from sono.annotation.growth import STANDARDS
from sono.annotation.masks import pixels
from sono.annotation.measure_masks import sizes_of
from sono.curation.clinical.dating import DATINGS, days_from_size
from sono.curation.core.arrays import Mask
from sono.curation.core.console import progress
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import read_stored
from sono.evaluation.modes import usable_masks
from sono.evaluation.probes.errors import MEASURES, Reals, error_cell, error_summary, mean_interval
from sono.evaluation.probes.measures import Found
from sono.evaluation.probes.parts import rows_tested
from sono.evaluation.probes.predicted_masks import Proposers, predicted
from sono.evaluation.probes.study import Probe
from sono.evaluation.result_tables import PERCENT, Cell, ResultTable, Unit, exact
from sono.evaluation.strata import AGES

MM = Unit("mm", 1, ".2f", "in mm")
SHARE = Unit("percent", 1, ".2f", "in percent of the size")
DAYS = Unit("days", 1, ".1f", "in days")
ACCEPTED, MEDIAN, GROWTH = "accepted_masks", "median", "growth"
STRUCTURES = {plane: name for name, rule in RULES.items() for plane in rule.planes}

Sizes = dict[str, Reals]  # mm [frames] by measure, NaN: not measured


@dataclass(frozen=True)
class Compared:
    """What is compared on the tested `rows` [n]: the `truth` [n], and each method's answers [n]."""

    rows: NDArray[np.intp]
    truth: Reals
    answers: Mapping[str, Reals]


def measure_biometry(probe: Probe) -> Found:
    """Errors in mm, percent and days of predicted masks and baselines, by measure and trimester."""
    rows = rows_tested(probe.parts)
    accepted = accepted_sizes(probe)
    masks = {name: predicted_sizes(probe, name, rows) for name in _proposers(probe).proposers}
    compared = {
        name: one
        for name, one in _comparisons(probe, accepted, masks)
        if len(one.rows) and not all(np.isnan(each).all() for each in one.answers.values())
    }
    if not compared:
        raise SonoError(
            f"{probe.options.protocol.words}: no tested frame has an accepted mask that can be "
            "measured, or a recorded size; `sono masks measure` says why"
        )
    ages = _ages(probe, rows, {ACCEPTED: accepted, **masks})
    metrics = {
        "sizes": {name: _summaries(probe, one, 1) for name, one in compared.items()},
        "percent": {
            name: _summaries(probe, one, 100 / one.truth) for name, one in compared.items()
        },
        "not_measured": {name: _lost(one, masks) for name, one in compared.items()},
        "gains": {name: _gains(probe, one, masks) for name, one in compared.items()},
        "ages": {} if ages is None else _summaries(probe, ages, 1),
        "ages_not_measured": {} if ages is None else _lost(ages, {ACCEPTED: accepted, **masks}),
    }
    return Found(metrics, tuple(_tables(metrics)), tuple(_sentences(metrics)))


def accepted_sizes(probe: Probe) -> Sizes:
    """The measures of the accepted masks of all frames, several of one frame as their mean."""
    found = _unmeasured(len(probe.frames))
    masks = usable_masks(probe.workspace.masks(), probe.frames)
    groups = {str(name): group for name, group in masks.groupby("image_id")}
    for row, frame in enumerate(probe.frames.to_dict("records")):
        own = groups.get(str(frame["image_id"]), masks.iloc[:0])
        own = own[own["structure"] == STRUCTURES[frame["plane"]]]
        sizes = [one for mask in own.to_dict("records") if (one := _sizes(pixels(mask), frame))]
        for name in sizes[0] if sizes else ():
            found[name][row] = np.mean([one[name] for one in sizes])
    return found


def predicted_sizes(probe: Probe, proposer: str, rows: NDArray[np.intp]) -> Sizes:
    """The measures of the masks that a proposer predicts in the frames `rows`."""
    found = _unmeasured(len(probe.frames))
    own = _proposers(probe).proposers[proposer]
    with progress(f"masks of the {proposer}", len(rows)) as advance:
        for row in rows:
            frame = probe.frames.iloc[row]
            gray = read_stored(probe.workspace.root / str(frame["file"]))
            plane = str(frame["plane"])
            mask = predicted(own, gray, plane, STRUCTURES[plane])
            for name, size in ({} if mask is None else _sizes(mask, frame)).items():
                found[name][row] = size
            advance()
    return found


def median_sizes(probe: Probe, truth: Reals) -> Reals:
    """The median [frames] of the `truth` of the frames to fit on, of the plane of each frame."""
    planes = probe.frames["plane"].to_numpy(str)
    found = np.full(len(truth), np.nan)
    for part in probe.parts:
        for row in part.test:
            own = truth[part.pool[planes[part.pool] == planes[row]]]
            own = own[~np.isnan(own)]
            found[row] = np.median(own) if len(own) else np.nan
    return found


def standard_sizes(probe: Probe, measure: str) -> Reals:
    """The mean [frames] of the growth standard at the recorded age, where there is one."""
    days = recorded_days(probe)
    known = (days >= STANDARD_DAYS[0]) & (days <= STANDARD_DAYS[1])
    found = np.full(len(days), np.nan)
    if measure in STANDARDS:
        mean = STANDARDS[measure][0]
        found[known] = [mean(day / 7) for day in days[known]]
    return found


def recorded_days(probe: Probe) -> Reals:
    """The recorded age [frames]; NaN where it was computed from a size, which would confirm it."""
    days = probe.frames["ga_days"].to_numpy(np.float64, na_value=np.nan)
    circular = probe.frames["ga_source"].isin(tuple(DATINGS)).to_numpy(bool)
    return np.where(circular, np.nan, days)


def _proposers(probe: Probe) -> Proposers:
    assert isinstance(probe.subject, Proposers)
    return probe.subject


def _unmeasured(frames: int) -> Sizes:
    names = [name for rule in RULES.values() for name in rule.measures]
    return {name: np.full(frames, np.nan) for name in names}


def _sizes(mask: Mask, frame: Any) -> dict[str, float]:
    """The measures of a mask of a frame; none if it cannot be measured."""
    spacing = frame["row_spacing_mm"], frame["col_spacing_mm"]
    try:
        return sizes_of(mask, STRUCTURES[frame["plane"]], frame["plane"], spacing)
    except UnmeasuredError:
        return {}


def _comparisons(
    probe: Probe, accepted: Sizes, masks: Mapping[str, Sizes]
) -> Iterator[tuple[str, Compared]]:
    """Each measure against accepted masks, and those that records have against the record.

    A record counts on the planes on which its measure is taken.
    """
    planes = probe.frames["plane"]
    for measure in accepted:
        rule = next(rule for rule in RULES.values() if measure in rule.measures)
        growth = standard_sizes(probe, measure)
        own = {name: sizes[measure] for name, sizes in masks.items()}
        yield measure, _compared(probe, accepted[measure], {**own, GROWTH: growth})
        if f"{measure}_mm" in probe.frames:
            record = probe.frames[f"{measure}_mm"].to_numpy(np.float64, na_value=np.nan)
            record = np.where(planes.isin(rule.planes).to_numpy(bool), record, np.nan)
            others = {ACCEPTED: accepted[measure], **own, GROWTH: growth}
            yield f"{measure}_of_record", _compared(probe, record, others)


def _compared(probe: Probe, truth: Reals, answers: Mapping[str, Reals]) -> Compared:
    rows = rows_tested(probe.parts)
    rows = rows[~np.isnan(truth[rows])]
    every = {**answers, MEDIAN: median_sizes(probe, truth)}
    return Compared(rows, truth[rows], {name: each[rows] for name, each in every.items()})


def _ages(probe: Probe, rows: NDArray[np.intp], sizes: Mapping[str, Sizes]) -> Compared | None:
    """Ages by Hadlock's formulas (HC, AC, FL) against recorded ones; None without any."""
    days = recorded_days(probe)
    rows = rows[~np.isnan(days[rows])]
    if not len(rows):
        return None
    medians = np.full(len(days), np.nan)
    for part in probe.parts:
        known = days[part.pool][~np.isnan(days[part.pool])]
        medians[part.test] = np.median(known) if len(known) else np.nan
    answers = {name: _formula_days(each, len(days))[rows] for name, each in sizes.items()}
    return Compared(rows, days[rows], {**answers, MEDIAN: medians[rows]})


def _formula_days(sizes: Sizes, frames: int) -> Reals:
    found = np.full(frames, np.nan)
    for rule in RULES.values():
        first = rule.measures[0]  # of a head its circumference alone
        for row in np.flatnonzero(~np.isnan(sizes[first])):
            days = days_from_size(first, float(sizes[first][row]))
            found[row] = np.nan if days is None else days
    return found


def _summaries(probe: Probe, one: Compared, factor: Any) -> dict[str, dict[str, Any]]:
    """The errors of each method, in all frames and by trimester, where there are any."""
    days = recorded_days(probe)[one.rows]
    groups = {"": np.ones(len(one.rows), np.bool_)}
    groups |= {f", {name}": (days >= low) & (days < high) for name, (low, high) in AGES.items()}
    found = {}
    for method, answers in one.answers.items():
        errors = (answers - one.truth) * factor
        for title, inside in groups.items():
            kept = inside & ~np.isnan(errors)
            if kept.any():
                clusters = probe.clusters[one.rows[kept]]
                found[f"{method}{title}"] = error_summary(errors[kept], clusters, probe.draws)
    return found


def _lost(one: Compared, masks: Mapping[str, Sizes]) -> dict[str, dict[str, Any]]:
    """The share of the frames with a truth in which each method's mask gives no size."""
    return {
        name: {"share": float(np.isnan(one.answers[name]).mean()), "images": len(one.rows)}
        for name in masks
    }


def _gains(probe: Probe, one: Compared, masks: Mapping[str, Sizes]) -> dict[str, dict[str, Any]]:
    """The absolute error of each method minus that of each baseline, paired by frame."""
    found = {}
    errors = {name: np.abs(answers - one.truth) for name, answers in one.answers.items()}
    for name in masks:
        for baseline in (MEDIAN, GROWTH):
            apart = errors[name] - errors[baseline]
            kept = ~np.isnan(apart)
            if kept.any():
                own = np.unique(probe.clusters[one.rows[kept]], return_inverse=True)[1]
                interval = mean_interval(apart[kept], own, probe.draws).as_dict()
                found[f"{name}_minus_{baseline}"] = {
                    "mae": interval, "images": int(kept.sum()), "clusters": int(own.max()) + 1,
                }  # fmt: skip
    return found


def _tables(metrics: Mapping[str, Any]) -> Iterator[ResultTable]:
    kinds = (("sizes", "errors", MM), ("percent", "relative_errors", SHARE))
    for key, name, unit in kinds:
        rows = {
            f"{measure}, {method}": row
            for measure, methods in metrics[key].items()
            for method, row in methods.items()
        }
        yield _error_table(name, unit, rows)
    yield _error_table("ages", DAYS, metrics["ages"])
    shares = {**metrics["not_measured"], "age": metrics["ages_not_measured"]}
    lost = [
        Cell(measure, method, exact(row["share"]), {"frames": row["images"]})
        for measure, methods in shares.items()
        for method, row in methods.items()
    ]
    yield ResultTable("not_measured", ("measure", "masks"), PERCENT, tuple(lost))
    gains = [
        error_cell(measure, name, row, "mae")
        for measure, differences in metrics["gains"].items()
        for name, row in differences.items()
    ]
    yield ResultTable("change_of_absolute_error", ("measure", "difference"), MM, tuple(gains))


def _error_table(name: str, unit: Unit, rows: Mapping[str, Mapping[str, Any]]) -> ResultTable:
    cells = [error_cell(title, each, row, each) for title, row in rows.items() for each in MEASURES]
    return ResultTable(name, ("method", "error"), unit, tuple(cells))


def _sentences(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The bias and limits of each method, by measure, and of the ages."""
    yield "Bias and 95 % limits; masks and baselines in frames of patients who are not fitted on:"
    for measure, rows in metrics["sizes"].items():
        words = _words(rows, metrics["not_measured"][measure], "mm")
        yield f"{measure.upper().replace('_OF_RECORD', ' of the record')}: {words}."
    if metrics["ages"]:
        words = _words(metrics["ages"], metrics["ages_not_measured"], "days")
        yield f"Age by Hadlock's formulas: {words}."


def _words(
    rows: Mapping[str, Mapping[str, Any]], lost: Mapping[str, Mapping[str, Any]], unit: str
) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')} {_agreement(row, unit)}"
        + (f", {100 * lost[name]['share']:.0f} % not measured" if name in lost else "")
        for name, row in rows.items()
        if ", " not in name  # not of one trimester
    )


def _agreement(row: Mapping[str, Any], unit: str) -> str:
    """As in "+0.5 mm (-4.1 to +5.1, 98 frames)"."""
    limits = "" if row["sd"] is None else f"{row['low']:+.1f} to {row['high']:+.1f}, "
    frames = f"{row['images']} frame{'s' * (row['images'] > 1)}"
    return f"{row['bias']['point']:+.1f} {unit} ({limits}{frames})"
