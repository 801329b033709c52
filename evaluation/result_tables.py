"""The results of an evaluation as tables of one metric: for report, terminal and CSV files."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from sono.curation.core.atomic import write_text
from sono.curation.core.csv_files import plain_cell
from sono.evaluation.captions import RETRIEVAL_KS
from sono.evaluation.modes import MODES
from sono.evaluation.statistics.bootstrap import Interval

FOLDER = "tables"  # next to the report
MISSING = "\u2013"
METRICS = {"top1": "Top-1", "top5": "Top-5", "f1": "F1"}
# names of counts in metrics.json and in the tables
COUNTS = {
    "images": "frames",
    "masks": "masks",
    "frames": "frames",
    "clusters": "patients",
    "training_images": "in_training",
}


@dataclass(frozen=True)
class Unit:
    """How numbers are written: their name, factor, format, and the words for it in a title."""

    name: str
    factor: float
    digits: str
    words: str

    def point(self, value: Interval) -> str:
        """The estimate, such as "83.1"; a dash if nothing was measured."""
        return MISSING if isnan(value.point) else self._written(value.point)

    def limits(self, value: Interval) -> str:
        """The interval, such as "[79.0, 87.2]"; empty if there is none."""
        if isnan(value.low):
            return ""
        return f"[{self._written(value.low)}, {self._written(value.high)}]"

    def text(self, value: Interval) -> str:
        """The estimate and its interval, such as "83.1 [79.0, 87.2]"."""
        return f"{self.point(value)} {self.limits(value)}".strip()

    def number(self, value: float) -> str:
        """A number of a CSV file, with six digits; empty if nothing was measured."""
        return "" if isnan(value) else f"{self.factor * value:.6g}"

    def _written(self, value: float) -> str:
        return format(self.factor * value, self.digits)


PERCENT = Unit("percent", 100, ".1f", "in percent")
POINTS = Unit("points", 100, "+.1f", "in points")
COSINE = Unit("cosine", 1, ".3f", "as cosine")
SCORE = Unit("score", 1, ".3f", "as a number, 0 is best")
ANSWERS = Unit("answers", 1, ".0f", "as number of answers")


@dataclass(frozen=True)
class Cell:
    """A number in a row and a column, and how many frames, masks and patients it is of."""

    row: str
    column: str
    value: Interval
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ResultTable:
    """A table of one metric; `name` is that of its CSV file.

    `labels` name the rows and the columns; the latter is "" for a table of one column.
    """

    name: str
    labels: tuple[str, str]
    unit: Unit
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> dict[str, dict[str, Cell]]:
        """The cells by row and column."""
        found: dict[str, dict[str, Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.row, {})[cell.column] = cell
        return found

    @property
    def columns(self) -> dict[str, Mapping[str, int]]:
        """The columns, and the counts of their first cells."""
        found: dict[str, Mapping[str, int]] = {}
        for cell in self.cells:
            found.setdefault(cell.column, cell.counts)
        return found

    @property
    def place(self) -> str:
        """The CSV file, relative to the report."""
        return f"{FOLDER}/{self.name}.csv"

    def csv_text(self) -> str:
        """One line per cell: its labels, counts, number and interval, with units in the header."""
        counts = [name for name in COUNTS.values() if any(name in c.counts for c in self.cells)]
        counts = list(dict.fromkeys(counts))
        unit, intervals = self.unit, any(not isnan(cell.value.low) for cell in self.cells)
        limits = [f"{unit.name}_low", f"{unit.name}_high"] if intervals else []
        labels = [label for label in self.labels if label]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*labels, *counts, unit.name, *limits])
        for cell in self.cells:
            value = cell.value
            numbers = [value.point, value.low, value.high][: 1 + len(limits)]
            writer.writerow(
                [
                    *map(plain_cell, (cell.row, cell.column)[: len(labels)]),
                    *(cell.counts.get(name, "") for name in counts),
                    *map(unit.number, numbers),
                ]
            )
        return out.getvalue()


def write_tables(folder: Path, tables: Iterable[ResultTable]) -> None:
    """Write one CSV file per table into `folder`, and remove those of earlier tables."""
    for stale in folder.glob("*.csv"):
        stale.unlink()
    for table in tables:
        write_text(folder / f"{table.name}.csv", table.csv_text())


def result_tables(metrics: Mapping[str, Any]) -> dict[str, ResultTable]:
    """The tables of the `metrics` of an evaluation by name; tables without numbers are left out."""
    control = metrics["region_control"]
    tables = [
        *_score_tables(metrics),
        _gain_table(metrics),
        *(_region_tables(control) if "conditions" in control else ()),
        *_prompt_tables(metrics["prompt_sets"]),
        _recall_table(metrics),
        *_confusion_tables(metrics),
        *_retrieval_tables(metrics),
        *_probability_tables(metrics),
        *_strata_tables(metrics["strata"]),
        _caliper_table(metrics["calipers"]),
    ]
    return {table.name: table for table in tables if table.cells}


def metric_title(name: str) -> str:
    """The words for a metric, as in "Top-1 macro of 24" for `top1_macro_of_24`."""
    first, *rest = name.split("_")
    return " ".join([METRICS[first], *rest])


def title_of(name: str) -> str:
    """The `metric_title` of a metric, any other name with spaces."""
    known = name.partition("_")[0] in METRICS
    return metric_title(name) if known else name.replace("_", " ")


def score_names(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics of plane recognition, that by which masks are compared first."""
    names = list(metrics["groups"][0]["modes"]["all_one"])
    return sorted(names, key=lambda name: name != metrics["compared_metric"])


def all_present(metrics: Mapping[str, Any]) -> bool:
    """Whether every plane of the study is among the evaluated frames."""
    return len(metrics["planes"]) == len(metrics["candidates"])


def distinct_names(metrics: Mapping[str, Any]) -> list[str]:
    """The `score_names`; without those among all planes if these are the planes present."""
    names = score_names(metrics)
    return [name for name in names if not (all_present(metrics) and "_of_" in name)]


def _score_tables(metrics: Mapping[str, Any]) -> Iterator[ResultTable]:
    """Each metric of plane recognition by mask, on each set of frames."""
    for name in score_names(metrics):
        cells = [
            Cell(mode, group["title"], Interval.from_dict(values[name]), _counts(group))
            for group in metrics["groups"]
            for mode, values in group["modes"].items()
        ]
        cells.sort(key=lambda cell: MODES.index(cell.row))
        cells += [
            Cell(
                {"constant": "constant_answer"}.get(baseline, baseline),
                group["title"],
                exact(values[name]),
                _counts(group),
            )
            for baseline in ("majority_class", "constant")
            for group in metrics["groups"]
            if name in (values := group["baselines"].get(baseline, {}))
        ]
        yield ResultTable(name, ("mask", "frame_set"), PERCENT, tuple(cells))


def _gain_table(metrics: Mapping[str, Any]) -> ResultTable:
    cells = [
        Cell("_minus_".join(row["modes"]), "", Interval.from_dict(row["top1_macro"]), _counts(row))
        for row in metrics["differences"]
    ]
    return ResultTable("mask_gain", ("difference", ""), POINTS, tuple(cells))


def _region_tables(control: Mapping[str, Any]) -> Iterator[ResultTable]:
    """Region naming and its differences, the follow rate, cosines, cue conflict, phrasings."""
    ways = ("in_plane", "among_all")
    naming = [
        Cell(name, way, Interval.from_dict(row[way]), _counts(row[way]))
        for name, row in control["conditions"].items()
        for way in ways
    ] + [Cell("chance", way, exact(control["chance"][way]), {}) for way in ways]
    yield ResultTable("region_naming", ("mask", "candidates"), PERCENT, tuple(naming))
    gains = {f"own_minus_{name}": row for name, row in control["differences"].items()}
    yield ResultTable("region_gain", ("difference", ""), POINTS, _cells(gains))
    follow = [*_cells({"all": control["follow"]})]
    follow += [
        Cell(row["structure"], "", Interval.from_dict(row["follow"]), _counts(row["follow"]))
        for row in control["structures"]
    ]
    yield ResultTable("follow_rate", ("structure", ""), PERCENT, tuple(follow))
    yield ResultTable("mask_cosine", ("between", ""), COSINE, _cells(control["cosine"]))
    yield ResultTable("cue_conflict", ("follows", ""), PERCENT, _cells(control["conflict"]))
    yield _phrasing_table("region_phrasings", control["phrasings"], control["conditions"]["own"])
    structures = [
        Cell(row["structure"], way, Interval.from_dict(row[way]), _counts(row))
        for row in control["structures"]
        for way in ("own", "all_one", "place_and_shape", "among_all")
        if way in row
    ]
    yield ResultTable("structures", ("structure", "mask"), PERCENT, tuple(structures))


def _caliper_table(found: Mapping[str, Any]) -> ResultTable:
    names = ("top1_macro", "change", "changed_answers")
    return ResultTable("calipers", ("measure", ""), PERCENT, _cells({
        name: found[name] | {"frames": found["frames"], "clusters": found["clusters"]}
        for name in names
    }))  # fmt: skip


def _prompt_tables(found: Mapping[str, Any]) -> Iterator[ResultTable]:
    """Top-1 macro with each set of prompts, and with each prompt alone, by candidates."""
    counts = _counts(found)
    for suffix, sets in found["candidates"].items():
        cells = [
            Cell(name, column, Interval.from_dict(values[column]), counts)
            for name, values in sets.items()
            for column in ("together", "alone_mean", "alone_sd", "worst")
        ]
        yield ResultTable(f"prompt_sets{suffix}", ("prompts", "measure"), PERCENT, tuple(cells))
        alone = [
            Cell(prompt, name, Interval.from_dict(value), counts)
            for name, values in sets.items()
            for prompt, value in values["each"].items()
        ]
        yield ResultTable(f"prompts{suffix}", ("prompt", "prompts"), PERCENT, tuple(alone))


def _phrasing_table(
    name: str,
    phrasings: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Any]],
) -> ResultTable:
    """Top-1 macro with each phrasing, and its mean over the unseen ones.

    `phrasings` are by candidates, as are the counts in `measured`.
    """
    cells = []
    for way, found in phrasings.items():
        rows = found["each"] | ({} if found["worst"] is None else {"unseen_mean": found["mean"]})
        if found["sd"] is not None:
            rows |= {"unseen_sd": {"point": found["sd"], "low": None, "high": None}}
        counts = _counts(measured[way])
        cells += [Cell(words, way, Interval.from_dict(row), counts) for words, row in rows.items()]
    label = "candidates" if len(phrasings) > 1 else ""
    return ResultTable(name, ("phrasing", label), PERCENT, tuple(cells))


def _recall_table(metrics: Mapping[str, Any]) -> ResultTable:
    cells = [
        Cell(row["plane"], mode, Interval.from_dict(recall), _counts(row["covered"][mode] | seen))
        for row in metrics["classes"]
        for seen in [{"training_images": row["training_images"]}]
        for mode, recall in row["recall"].items()
    ]
    return ResultTable("plane_recall", ("plane", "mask"), PERCENT, tuple(cells))


def _confusion_tables(metrics: Mapping[str, Any]) -> Iterator[ResultTable]:
    """The answers of each mask mode, by true plane and answer."""
    planes = metrics["planes"]
    for mode, matrix in metrics["confusion"].items():
        cells = tuple(
            Cell(plane, answer, exact(count), {})
            for plane, row in zip(planes, matrix, strict=True)
            for answer, count in zip([*planes, "undecided"], row, strict=True)
        )
        yield ResultTable(f"confusion_{mode}", ("plane", "answer"), ANSWERS, cells)


def _retrieval_tables(metrics: Mapping[str, Any]) -> Iterator[ResultTable]:
    """Retrieval by query with its controls, and the differences of region queries."""
    for name, key, unit in (
        ("retrieval", "retrieval", PERCENT),
        ("retrieval_gain", "gains", POINTS),
    ):
        cells = [
            Cell(row, column, Interval.from_dict(values[column]), _counts(values))
            for row, values in metrics["captions"].get(key, {}).items()
            for column in (*(f"at_{k}" for k in RETRIEVAL_KS), "map")
            if column in values
        ]
        labels = "query" if key == "retrieval" else "difference", "recall"
        yield ResultTable(name, labels, unit, tuple(cells))


def _strata_tables(strata: Mapping[str, Any]) -> Iterator[ResultTable]:
    """Top-1 of groups of frames, and of pairs of groups."""
    for name, key in (("strata", "groups"), ("strata_pairs", "pairs")):
        cells = [
            Cell(row["group"], metric, Interval.from_dict(row[metric]), _counts(row))
            for row in strata[key]
            for metric in ("top1_macro", "top1_micro")
        ]
        yield ResultTable(name, ("group", "metric"), PERCENT, tuple(cells))


def _probability_tables(metrics: Mapping[str, Any]) -> Iterator[ResultTable]:
    """Calibration at each temperature and of each plane, risk by coverage, and refusal."""
    found = metrics["probabilities"]
    counts, refusal = _counts(found), found["refusal"]
    measures = [
        Cell(name, temperature, exact(value), counts)
        for temperature, row in found["measures"].items()
        for name, value in row.items()
    ]
    yield ResultTable("probabilities", ("measure", "temperature"), SCORE, tuple(measures))
    errors = [
        Cell(plane, "", exact(value), counts)
        for plane, value in zip(metrics["candidates"], found["class_errors"], strict=True)
    ]
    yield ResultTable("class_calibration", ("plane", ""), SCORE, tuple(errors))
    risks = [Cell(share, "", exact(value), counts) for share, value in found["risk"].items()]
    risks.append(Cell("mean", "", exact(found["aurc"]), counts))
    yield ResultTable("risk_by_coverage", ("answered_percent", ""), PERCENT, tuple(risks))
    cells = [
        Cell(measure, score, Interval.from_dict(refusal[score][measure]), _counts(refusal))
        for score in ("probability", "cosine")
        for measure in refusal.get(score, ())
    ]
    yield ResultTable("refusal", ("measure", "confidence"), PERCENT, tuple(cells))


def _cells(rows: Mapping[str, Mapping[str, Any]]) -> tuple[Cell, ...]:
    """The cells of a table of one column."""
    return tuple(
        Cell(name, "", Interval.from_dict(row), _counts(row)) for name, row in rows.items()
    )


def exact(value: float | None) -> Interval:
    """A number without interval."""
    return Interval.from_dict({"point": value, "low": None, "high": None})


def _counts(row: Mapping[str, Any]) -> dict[str, int]:
    return {COUNTS[name]: row[name] for name in COUNTS if name in row}
