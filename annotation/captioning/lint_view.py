"""Format the report of `sono captions lint` for a terminal."""

from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from sono.curation.core.errors import counted

if TYPE_CHECKING:
    from sono.annotation.captioning.lint_report import LintReport

SHOWN = 5  # rows of each code
BAR = 40  # characters of the longest bar


def view(report: "LintReport") -> Group:
    """Format codes with their first rows, the diversity of planes and the histogram of tokens."""
    parts: list[Table | Text] = [Text(_headline(report))]
    for code, count in report.counts.items():
        parts += [Text(f"\n{code}: {count}", style="bold"), Text(f"  {report.meanings[code]}")]
        parts.append(Text(f"  fix: {report.fixes[code]}"))
        rows = (row for row in report.rows if code in row.codes)
        for row in islice(rows, SHOWN):
            mask = f" mask {row.mask_id}" if row.mask_id else ""
            parts.append(Text(f"  frame {row.image_id}{mask}: '{row.text}'"))
        if count > SHOWN:
            parts.append(Text(f"  ... and {count - SHOWN} more; --json lists all"))
    table = Table(
        Column("plane", no_wrap=True), Column("captions", justify="right"),
        Column("distinct", justify="right"), Column("most frequent", justify="right"),
        box=None, pad_edge=False,
    )  # fmt: skip
    for one in report.diversity:
        table.add_row(one.plane, str(one.captions), str(one.distinct), f"{one.most_frequent:.0%}")
    parts += [Text(""), table, Text("\ntokens  captions")]
    longest = max(report.tokens.values(), default=1)
    parts += [
        Text(f"{name:>7}  {count:>8} {'#' * round(BAR * count / longest)}")
        for name, count in report.tokens.items()
    ]
    return Group(*parts)


def _headline(report: "LintReport") -> str:
    clean = report.captions - report.errors - report.remarks
    text = (
        f"{counted(report.captions, 'caption')}: {report.errors} with errors, {report.remarks} "
        f"with remarks alone, {clean} clean"
    )
    return text if report.searched else f"{text}; not searched for private texts (no vault)"
