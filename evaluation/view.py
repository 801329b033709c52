"""The result of an evaluation in the terminal: scores by mask mode, verdicts and notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sono.evaluation.region_report import region_tables
from sono.evaluation.summaries import rate


@dataclass(frozen=True)
class EvaluationResult:
    """The metrics of an evaluation, the folder of its report, and the view for the terminal."""

    title: str
    run: str
    folder: Path
    metrics: dict[str, Any]

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

    def rows(self) -> list[dict[str, str]]:
        """One row per mode and set of frames, in percent with 95 % intervals."""
        names = ("top1_macro", "top1_micro", "top5_macro")
        return [
            {"frames": group["title"], "mask": mode} | {name: rate(values[name]) for name in names}
            for group in self.metrics["groups"]
            for mode, values in group["modes"].items()
        ]

    def __rich__(self) -> Group:
        """The view for the terminal: scores by mask mode, verdicts, notes and the report's path."""
        rows = self.rows()
        tables = [
            _score_table(group["title"], [row for row in rows if row["frames"] == group["title"]])
            for group in self.metrics["groups"]
        ]
        notes = [Text(f"- {note}") for note in self.notes]
        left_out = ", ".join(
            f"{count} {reason}" for reason, count in self.metrics["excluded"].items()
        )
        if left_out:
            notes.insert(0, Text(f"- Frames excluded: {left_out}."))
        tables += region_tables(self.metrics["region_control"])
        report = Text(f"report: {self.folder / 'report.html'}")
        verdicts = [
            Text(text) for text in (self.region_verdict, self.verdict, self.regions_verdict) if text
        ]
        return Group(Text(self.title), *tables, *verdicts, *notes, report)

    def as_dict(self) -> dict[str, Any]:
        """The contents of metrics.json, and its folder."""
        return {"folder": str(self.folder), **self.metrics}


def _score_table(title: str, rows: Sequence[dict[str, str]]) -> Table:
    """The scores that fit in 80 columns; the report has all of them."""
    table = Table(
        title=f"{title}, in % [95 % interval]", title_justify="left", box=SIMPLE, pad_edge=False
    )
    table.add_column("mask", no_wrap=True)
    for name in ("Top-1 macro", "Top-1 micro", "Top-5 macro"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(
            row["mask"], row["top1_macro"], row["top1_micro"], row["top5_macro"].split()[0]
        )
    return table
