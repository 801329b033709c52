"""The table of a comparison: in the terminal, and for files."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sono.curation.core.csv_files import plain_cell
from sono.evaluation.comparison.measure import ComparedRow
from sono.evaluation.result_tables import PERCENT, POINTS, metric_title
from sono.evaluation.text_tables import TextTable

HEADINGS = (
    "measure",
    "run",
    "frames",
    "patients",
    "percent [interval]",
    "difference in points",
    "p (Holm)",
)
CLEAR = 0.05  # planes with a smaller corrected p-value are shown in the terminal


@dataclass(frozen=True)
class Comparison:
    """Runs on the same frames: what they were evaluated on, and one row per measure and run."""

    title: str
    mask: str
    rows: tuple[ComparedRow, ...]
    plane_names: dict[str, str]
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[str]:
        """The labels of the runs; the others are compared with the first."""
        return list(dict.fromkeys(row.run for row in self.rows))

    def cells(self, rows: Sequence[ComparedRow] | None = None) -> list[list[str]]:
        """The texts of the rows, in the order of HEADINGS."""
        return [self._cells(row) for row in (self.rows if rows is None else rows)]

    def _cells(self, row: ComparedRow) -> list[str]:
        name = (
            f"recall, {self.plane_names.get(row.plane, row.plane)}"
            if row.plane
            else metric_title(row.measure)
        )
        change = "" if row.difference is None else POINTS.text(row.difference)
        p_value = "" if row.p_value is None else _p_text(row.p_value)
        sizes = [str(row.frames), str(row.patients)]
        return [name, row.run, *sizes, PERCENT.text(row.score), change, p_value]

    @property
    def explanation(self) -> str:
        """What the numbers are."""
        return (
            f"Mask {self.mask.replace('_', ' ')}. Differences are those from {self.runs[0]} on the "
            "same frames; 95 % intervals are over patients. p of a plane: sign changes of "
            "patients, corrected by Holm over planes and runs."
        )

    @property
    def table(self) -> TextTable:
        """All rows, for a file."""
        name = f"Comparison of {', '.join(self.runs)}"
        cells, numbers = self.cells(), (HEADINGS.index("frames"), HEADINGS.index("patients"))
        return TextTable(
            name,
            self.title,
            HEADINGS,
            cells,
            self.explanation,
            _csv_text(self),
            self.notes,
            numbers,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with numbers between 0 and 1."""
        rows = [
            vars(row)
            | {
                "score": row.score.as_dict(),
                "difference": None if row.difference is None else row.difference.as_dict(),
            }
            for row in self.rows
        ]
        return {**vars(self), "rows": rows}

    def __rich__(self) -> Group:
        """The measures of all frames, and the planes in which runs differ clearly."""
        shown = [
            row
            for row in self.rows
            if not row.plane or (row.p_value is not None and row.p_value < CLEAR)
        ]
        table = Table(box=SIMPLE, pad_edge=False)
        # the numbers of frames are those of the title
        kept = [place for place, name in enumerate(HEADINGS) if name not in ("frames", "patients")]
        for place in kept:
            table.add_column(HEADINGS[place], no_wrap=place > 0)
        for cells in self.cells(shown):
            table.add_row(*(Text(cells[place]) for place in kept))
        planes = len({row.plane for row in self.rows if row.plane})
        clear = len({row.plane for row in shown if row.plane})
        rest = f"{clear} of {planes} planes differ with p < {CLEAR}; --output has all of them."
        below = [self.explanation, rest, *(f"- {note}" for note in self.notes)]
        return Group(Text(self.title), table, *map(Text, below))


def _p_text(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _csv_text(found: Comparison) -> str:
    """One line per row, with numbers in percent and points."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    counts = ["measure", "plane", "run", "frames", "patients"]
    score = ["percent", "percent_low", "percent_high"]
    writer.writerow([*counts, *score, "points", "points_low", "points_high", "p_holm"])
    for row in found.rows:
        change = row.difference
        writer.writerow(
            [
                *(plain_cell(getattr(row, name)) for name in counts),
                *(PERCENT.number(getattr(row.score, name)) for name in ("point", "low", "high")),
                *(
                    "" if change is None else POINTS.number(getattr(change, name))
                    for name in ("point", "low", "high")
                ),
                "" if row.p_value is None else f"{row.p_value:.6g}",
            ]
        )
    return out.getvalue()
