"""Format the report of `sono records check` for a terminal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from sono.curation.core.errors import counted
from sono.curation.core.planes import NO_PLANE, OTHER, PLANE_UNKNOWN
from sono.curation.records.column_looks import columns_block
from sono.curation.records.file_matching import RawMatch
from sono.curation.records.join_messages import list_paths
from sono.curation.records.messages import group_messages

if TYPE_CHECKING:
    from sono.curation.records.check import RecordsReport

MAX_MESSAGES = 50
NONE = "none"  # rows without a label, in the report


def view(report: "RecordsReport") -> Group:
    """Format columns and datings as tables, the rest as lines."""
    return Group(*_sections(report))


def _sections(report: "RecordsReport") -> Iterator[Table | Text]:
    yield Text(
        f"{report.table}: {counted(report.rows, 'row')}"
        f", layout {report.layout}, {_listed(report.records)} "
        f"rows"
    )
    columns = _table("column", "meaning", "filled", "looks like")
    for column in report.columns:
        columns.add_row(
            *map(
                Text,
                (
                    column.title,
                    column.meaning,
                    str(column.filled),
                    _listed(column.looks, first=False),
                ),
            )
        )
    yield columns
    named = {NONE: PLANE_UNKNOWN, OTHER: NO_PLANE}
    planes = {named.get(plane, plane): count for plane, count in report.planes.items()}
    yield _line("planes", _listed(planes))
    yield _line("ages", _listed(report.ages))
    if report.datings:
        datings = _table("dating", "rows", "median difference", "conflicts")
        for name, other in report.datings.items():
            datings.add_row(
                name, str(other.rows), f"{other.median_days:+g} days", str(other.conflicts)
            )
        yield datings
    exams = (
        f"{counted(report.exams, 'exam')}"
        f", {counted(report.patients_with_several_exams, 'patient')} with several"
        if report.exams
        else "no exam ids"
    )
    yield _line("patients", f"{report.patients}; {exams}")
    yield _line("repeated", _format_lines(report.repeated_rows))
    yield _line("in conflict", _format_lines(report.conflicting_rows))
    yield _line("age conflicts", _format_lines(report.age_conflicts))
    yield from _raw_section(report.raw)
    yield from _messages("remarks", len(report.remarks), report.remarks)
    yield from _messages("rejected", len(report.rejected), group_messages(report.rejected))
    if report.unknown_planes:
        yield Text('unknown planes for sono.toml; give each a plane or "other":', style="bold")
        yield Text(report.unknown_planes.rstrip())
    if report.suggested:
        yield Text(
            "unused columns whose contents suggest these lines for sono.toml; check each, paste "
            "those that are right, and run this command again:",
            style="bold",
        )
        yield Text(columns_block(report.suggested).rstrip())


def _raw_section(raw: RawMatch | None) -> Iterator[Table | Text]:
    if raw is None:
        return
    yield _line(
        "files",
        f"{counted(raw.files, 'image')}"
        f", {raw.matched} with a row, {raw.unmatched} without; {counted(raw.other_files, 'other')}",
    )
    if raw.unmatched:
        yield _line("without a row", _listed(raw.unmatched_names, first=False))
    yield _line(
        "without a file",
        f"{counted(raw.rows_without_file, 'row')}{_first_lines(raw.lines_without_file)}",
    )
    yield _line("left out", _listed(raw.codes))
    if raw.rows:
        rules = _table("rule", "rows", "files", "example")
        for row, rows, files in raw.examples():
            shown = (
                f"line {row.line}: {', '.join(list_paths(row.files))}"
                if row.files
                else f"line {row.line}"
            )
            rules.add_row(
                *map(
                    Text,
                    (row.rule, str(rows), str(files), "; ".join(filter(None, (shown, row.why)))),
                )
            )
        yield rules
    if raw.like_ids.count:
        yield _line("like ids", raw.like_ids.remark())
    if raw.unclear_names:
        yield _line("names", raw.unclear_names)


def _table(*titles: str) -> Table:
    columns = (Column(title, overflow="fold") for title in titles)  # names of files are not cut
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def _line(name: str, value: str) -> Text:
    return Text.assemble((f"{name:<15}", "bold"), value)


def _messages(name: str, count: int, messages: Sequence[str]) -> Iterator[Text]:
    if messages:
        yield _line(name, str(count))
    for message in messages[:MAX_MESSAGES]:
        yield Text(f"  - {message}")
    if len(messages) > MAX_MESSAGES:
        yield Text(f"  ... and {len(messages) - MAX_MESSAGES} more; --json lists all")


def _listed(counts: Mapping[str, int], first: bool = True) -> str:
    """Format counts with the number `first` or last."""
    pairs: Iterable[str] = (
        f"{count} {name}" if first else f"{name} ({count})" for name, count in counts.items()
    )
    return ", ".join(pairs) or "none"


def _format_lines(lines: tuple[int, ...]) -> str:
    return f"{counted(len(lines), 'row')}{_first_lines(lines)}"


def _first_lines(lines: tuple[int, ...], number: int = 10) -> str:
    if not lines:
        return ""
    return f": line {', '.join(map(str, lines[:number]))}{', ...' if len(lines) > number else ''}"
