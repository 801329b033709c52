"""The report of `sono planes check`: which labels of a column name a plane, and by which label."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sono.curation.clinical.values import is_short_number, is_slip, shape
from sono.curation.core.errors import IssuesError, SonoError, counted
from sono.curation.core.plane_labels import LABELS, label_form
from sono.curation.core.planes import OTHER, PlaneTable
from sono.curation.records.column_looks import MIN_PLANES
from sono.curation.records.delimited import Sheet
from sono.curation.records.formats import read_sheet
from sono.curation.records.layouts import layout_of_labels
from sono.curation.records.titles import guess_columns, parse_title

if TYPE_CHECKING:
    from rich.console import Group

MAX_LINES = 4  # of the table that are listed for each label
# What becomes of a label, the most doubtful first.
UNKNOWN, AMBIGUOUS, PROPOSED, OUTSIDE, READ = "unknown", "ambiguous", "proposed", "outside", "read"
STATES = (UNKNOWN, AMBIGUOUS, PROPOSED, OUTSIDE, READ)


@dataclass(frozen=True)
class CheckedLabel:
    """A label of a table, its rows, the plane id that it names or may name, and why."""

    label: str  # its shape, such as Aa Aa, if it is not shown
    rows: int
    lines: tuple[int, ...]  # of the table, the first MAX_LINES
    hidden: bool  # it may contain the name of a person
    state: str  # one of STATES
    plane: str
    why: str


@dataclass(frozen=True)
class LabelReport:
    """The labels of a column, those that need attention first."""

    table: str
    column: str
    rows: int
    without_label: int
    states: dict[str, int]  # rows by state
    labels: tuple[CheckedLabel, ...]

    def refuse_findings(self) -> None:
        """IssuesError (exit 3) where a label does not name a plane."""
        open_ = [one for one in self.labels if one.state in (UNKNOWN, AMBIGUOUS, PROPOSED)]
        if open_:
            raise IssuesError(
                f"{self.table}: {counted(len(open_), 'label does', 'labels do')} not name a plane; "
                "run without --strict and --quiet to see them"
            )

    def __rich__(self) -> "Group":
        """The report for a terminal."""
        from rich.console import Group
        from rich.table import Column, Table
        from rich.text import Text

        plane = Column("plane", no_wrap=True)
        titles = ("rows", "in lines", "label", "", plane, "by")
        table = Table(*titles, box=None, pad_edge=False)
        for one in self.labels:
            lines = ", ".join(map(str, one.lines)) + ", ..." * (one.rows > len(one.lines))
            cells = (str(one.rows), lines, one.label, one.state, one.plane, one.why)
            table.add_row(*map(Text, cells))
        listed = ", ".join(f"{count} {state}" for state, count in self.states.items() if count)
        head = f"{self.table}: {counted(self.rows, 'row')}, column '{self.column}': {listed}"
        head += f", {self.without_label} without a label" * bool(self.without_label)
        return Group(Text(head), table, *map(Text, self._advice()))

    def _advice(self) -> Iterator[str]:
        """What to do about labels that name no plane, and why some are not shown."""
        hidden = sum(one.hidden for one in self.labels)
        if hidden:
            yield (
                f"{counted(hidden, 'unknown label is', 'unknown labels are')} shown by shape "
                "(A and a for words, 9 for digits), because a label may contain the name of "
                "a person; --names shows the labels"
            )
        if any(one.state in (UNKNOWN, AMBIGUOUS) for one in self.labels):
            yield (
                "correct unknown and ambiguous labels in the table, or give them a plane (or "
                '"other") under [study.planes] in sono.toml: "label" = "femur"'
            )
        lines = [f'"{one.label}" = "{one.plane}"' for one in self.labels if one.state == PROPOSED]
        if lines:
            yield from (
                "confirm what is right: copy those lines to sono.toml",
                "[study.planes]",
                *lines,
            )


def check_labels(
    path: Path, planes: PlaneTable, column: str = "", names: bool = False
) -> LabelReport:
    """Look up each label of a table's column of planes (`column`, else the one that looks so).

    A label like none that is known is shown by its shape unless `names` is set. Raises SonoError if
    no column, or more than one, may be the column of planes.
    """
    sheet = read_sheet(path)
    layout = layout_of_labels(path, sheet.header, column or _column(path, sheet, planes))
    lines: dict[str, list[int]] = {}
    for line, row in sheet.rows:
        lines.setdefault(layout.cells(row).get("plane", ""), []).append(line)
    without = len(lines.pop("", []))
    found = [_checked(label, own, planes, names) for label, own in lines.items()]
    found.sort(key=lambda one: (STATES.index(one.state), -one.rows, one.label))
    states = {state: sum(one.rows for one in found if one.state == state) for state in STATES[::-1]}
    title = sheet.header[layout.columns["plane"]]
    return LabelReport(path.name, title, len(sheet.rows), without, states, tuple(found))


def _column(path: Path, sheet: Sheet, planes: PlaneTable) -> str:
    """The title of the column of planes."""
    index = guess_columns([parse_title(title) for title in sheet.header]).get("plane")
    if index is not None:
        return sheet.header[index]
    found = [title for title in sheet.header if _looks_so(sheet, title, planes)]
    if len(found) == 1 or len(sheet.header) == 1:
        return (*found, *sheet.header)[0]
    which = f"{len(found)} columns look" if found else "no column looks"
    raise SonoError(f"{path}: {which} like labels of planes; give its title with --column")


def _looks_so(sheet: Sheet, title: str, planes: PlaneTable) -> bool:
    """Whether most cells of a column are known labels."""
    index = sheet.header.index(title)
    cells = [row[index] for _, row in sheet.rows if row[index]]
    known = sum(bool(planes.get(cell) or planes.proposal(cell)) for cell in cells)
    return known >= max(1.0, MIN_PLANES * len(cells))


def _checked(label: str, lines: list[int], planes: PlaneTable, names: bool) -> CheckedLabel:
    rows = (len(lines), tuple(lines[:MAX_LINES]))
    plane = planes.get(label)
    if plane is not None:
        outside = planes.outside(label)
        state = OUTSIDE if plane == OTHER else READ
        why = outside or _source(label, plane, planes)
        return CheckedLabel(label, *rows, False, state, plane, why)
    meant = planes.proposal(label)
    if meant is not None:
        why = f"{meant.outside or meant.text} ({meant.language}, not reviewed)"
        return CheckedLabel(label, *rows, False, PROPOSED, meant.plane or OTHER, why)
    try:
        planes.find(label)
    except SonoError as error:
        problem = str(error)
    hint = problem.partition("; ")[2]
    if hint.startswith("it may mean"):
        return CheckedLabel(label, *rows, False, AMBIGUOUS, "", hint)
    hidden = not (names or is_slip(problem, label) or is_short_number(label))
    shown, why = shape(label) if hidden else label, hint if "did you" in hint else ""
    return CheckedLabel(shown, *rows, hidden, UNKNOWN, "", why)


def _source(label: str, plane_id: str, planes: PlaneTable) -> str:
    """The list that a label is read by."""
    plane = planes.by_id.get(plane_id)
    own = (label_form(plane.id), label_form(plane.name)) if plane else ()
    if label_form(label) in own:
        return "id or name"
    known = LABELS.by_form.get(label_form(label))
    if known is None or known.plane != plane_id:
        return "no standard plane" if plane_id == OTHER else "a label of the study, or similar"
    return known.source.partition(";")[0]
