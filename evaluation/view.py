"""The result of an evaluation in the terminal: scores by mask, verdicts and notes."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sono.evaluation.result_tables import ResultTable, metric_title
from sono.templates.reports import row_words

# of region control; the report has all conditions
SHOWN = ("own", "all_one", "place_and_shape", "gray_frame", "chance")


@dataclass(frozen=True)
class EvaluationResult:
    """The metrics of an evaluation, its tables, and the folder of its report."""

    title: str
    run: str
    folder: Path
    metrics: dict[str, Any]
    tables: dict[str, ResultTable]

    @property
    def verdict(self) -> str:
        """The sentence on whether masks help."""
        return str(self.metrics["verdict"]["text"])

    @property
    def regions_verdict(self) -> str:
        """The sentence on whether proposed regions help to find the plane; "" if not computed."""
        return str(self.metrics.get("region_planes", {"text": ""})["text"])

    @property
    def region_verdict(self) -> str:
        """The sentence on whether the mask steers."""
        return str(self.metrics["region_control"]["verdict"]["text"])

    @property
    def notes(self) -> list[str]:
        """What a reader must know before the numbers."""
        return list(self.metrics["notes"])

    def __rich__(self) -> Group:
        """The view for the terminal: scores by mask, verdicts, notes and the report's path."""
        compared = self.metrics["compared_metric"]
        scores = self.tables[compared]
        shown = [_view(scores, f"Plane recognition, {metric_title(compared)}", tuple(scores.rows))]
        rows = list(scores.rows)
        if naming := self.tables.get("region_naming"):
            shown.append(_view(naming, "Region naming, Top-1 macro over structures", SHOWN))
            rows += [name for name in SHOWN if name not in rows]
        verdicts = [
            Text(text) for text in (self.region_verdict, self.verdict, self.regions_verdict) if text
        ]
        notes = [Text(f"- {note}") for note in self.notes]
        left_out = ", ".join(
            f"{count} {reason}" for reason, count in self.metrics["excluded"].items()
        )
        if left_out:
            notes.insert(0, Text(f"- Frames excluded: {left_out}."))
        notes += [Text(f"- {note}") for note in _mask_counts(self.metrics["region_control"])]
        report = Text(f"report: {self.folder / 'report.html'}")
        return Group(Text(self.title), *shown, _meanings(rows), *verdicts, *notes, report)

    def as_dict(self) -> dict[str, Any]:
        """The contents of metrics.json, and its folder."""
        return {"folder": str(self.folder), **self.metrics}


def _mask_counts(control: Mapping[str, Any]) -> Iterator[str]:
    """Why the numbers of region naming are of different masks."""
    if single := control.get("single_candidate"):
        yield (
            f"{single} masks are of planes with one structure: they are named among all structures "
            "only."
        )
    conditions = control.get("conditions", {})
    own, donated = (
        conditions.get(name, {}).get("in_plane", {}).get("masks", 0)
        for name in ("own", "place_and_shape")
    )
    if donated < own:
        yield (
            f"Place and shape is measured for {donated} of {own} masks: the others have no frame "
            "of their plane of another patient. Differences compare the same masks."
        )


def _view(found: ResultTable, title: str, rows: Collection[str]) -> Table:
    """`rows` of a table, in 80 columns."""
    title = f"{title}, {found.unit.words} [95 % interval]"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    table.add_column("mask", no_wrap=True)
    for column, counts in found.columns.items():
        table.add_column(f"{column.replace('_', ' ')}\n{_sizes(counts)}")
    for row, cells in found.rows.items():
        if row in rows:
            values = (cells.get(column) for column in found.columns)
            texts = ("" if cell is None else found.unit.text(cell.value) for cell in values)
            table.add_row(row.replace("_", " "), *texts)
    return table


def _sizes(counts: Any) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in ("masks", "frames") if name in counts)


def _meanings(rows: Collection[str]) -> Table:
    """What the model is given in each row."""
    words = row_words()
    table = Table.grid(padding=(0, 2))
    for name in rows:
        if name in words:
            table.add_row(name.replace("_", " "), words[name])
    return table
