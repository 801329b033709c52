"""The rows of one records table while they are read, and the problems found in them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

from sono.curation.clinical import values
from sono.curation.clinical.name_variants import words_of
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import OTHER, PlaneTable
from sono.curation.records.delimited import Sheet
from sono.curation.records.layouts import KEYS, Cells, Layout
from sono.curation.records.messages import group_messages
from sono.curation.records.row_age import AgeRules, RowAge
from sono.curation.records.row_merging import IDS
from sono.curation.records.table import Record

Value = TypeVar("Value")

MIN_PATIENTS = 3  # whose rows have one label: then it is no patient's name
SAMPLE = 2000  # rows whose cells show the usual shape of a column
NOT_PRIVATE = frozenset(("other", "others", "yes", "no"))


@dataclass(frozen=True)
class TableReading:
    """The sheet, layout and rules of one table, its records, and the problems found in its rows.

    A problem is stored with its line and field. Its message is made on request, because the names
    that no message may show are complete only after the headers of the files are read.
    """

    path: Path
    sheet: Sheet
    layout: Layout
    planes: PlaneTable
    findings: tuple[str, ...]
    rules: AgeRules
    orders: Mapping[str, Counter[str]]  # of the dates that show whether day or month comes first
    as_floats: tuple[str, ...] = ()  # titles of the columns of ids that hold 4711.0
    known_persons: Collection[str] = ()  # names that no message may show
    # the names in the headers are not known yet: messages show only cells that are like known words
    before_headers: bool = False
    records: list[Record] = field(default_factory=list)
    ages: list[RowAge] = field(default_factory=list)
    found: list[tuple[int, str, str]] = field(default_factory=list)  # line, problem and field
    plane_ids: dict[str, str] = field(default_factory=dict)
    # by plane label: lines and problems
    unknown: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    # lines that repeat an earlier line
    repeated: list[int] = field(default_factory=list)
    conflicting: list[int] = field(default_factory=list)  # lines that contradict an earlier line
    _shapes: dict[int, str] = field(default_factory=dict)  # by column

    @property
    def name(self) -> str:
        """The file name of the table."""
        return self.path.name

    def report(self, line: int, problem: str, field: str = "") -> None:
        """Add a problem of a row; `field` names the column of the cell that the problem quotes."""
        self.found.append((line, problem, field))

    def knowing(self, persons: Collection[str]) -> "TableReading":
        """The same reading with further known `persons`: the names in the headers of the files."""
        return replace(self, known_persons=(*self.known_persons, *persons), before_headers=False)

    def problems(self) -> list[str]:
        """A message `FILE:LINE: PROBLEM` for each problem of a row."""
        return [
            f"{self.name}:{line}: {self.shown(line, problem, field)}"
            for line, problem, field in self.found
        ]

    def shown(self, line: int, problem: str, field: str) -> str:
        """A problem that quotes a cell of `field`, masked where the cell may be private."""
        at = self.layout.columns.get(field)
        return (
            problem
            if at is not None and self.may_show(line, at, problem)
            else values.masked(problem)
        )

    def shown_title(self, title: str) -> str:
        """A column title or sheet note, masked where it contains the name of a person."""
        return title if self.persons.isdisjoint(words_of(title)) else values.shape(title)

    def may_show(self, line: int, column: int, problem: str = "") -> bool:
        """Whether a message may show the cell of a row as it is.

        A suggestion in the `problem` shows that the cell is a misspelled known word.
        """
        row = self.rows_by_line[line]
        cell = row[column]
        words = re.findall(r"\w+", cell)
        unlike = self.before_headers and not (
            values.is_slip(problem, cell)
            or values.is_short_number(cell)
            or (column == self.layout.columns.get("plane") and self._is_label(cell))
        )
        if column in self.layout.private or unlike:
            return False
        if values.may_name_somebody(words) and self.vocabulary.isdisjoint(map(str.casefold, words)):
            return False
        private = self.persons | words_of(
            *private_texts(row, {}, self.layout), *person_names(row, self.layout)
        )
        return not any(len(word) > 2 for word in private & words_of(cell))

    def _is_label(self, cell: str) -> bool:
        """Whether a plane label names nobody: several patients share it, or some list has it."""
        return cell in self._shared_labels or self.planes.proposal(cell) is not None

    @cached_property
    def _shared_labels(self) -> frozenset[str]:
        """The plane labels that several patients have, so that they name none of them."""
        plane, patient = (self.layout.columns.get(field) for field in ("plane", "patient"))
        if plane is None or patient is None:
            return frozenset()
        pairs = {(row[plane], row[patient]) for _, row in self.sheet.rows if row[patient]}
        counts = Counter(label for label, _ in pairs)
        return frozenset(label for label, count in counts.items() if count >= MIN_PATIENTS)

    @cached_property
    def persons(self) -> frozenset[str]:
        """The words of all known names of persons, in the table and in the study's vault."""
        rows = (name for _, row in self.sheet.rows for name in person_names(row, self.layout))
        return words_of(*rows, *self.known_persons) - self.vocabulary

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The words of planes, structures and findings, which are no names of persons."""
        labels = (
            *(label for label, _ in self.planes.spellings),
            *self.planes.structures,
            *self.findings,
        )
        return frozenset(
            word for label in labels for word in re.findall(r"\w{3,}", label.casefold())
        )

    @cached_property
    def names_images(self) -> bool:
        """Whether any row names an image; rows without one then describe no image."""
        column = self.layout.columns.get("image")
        return column is not None and any(row[column] for _, row in self.sheet.rows)

    @cached_property
    def rows_by_line(self) -> dict[int, list[str]]:
        """The cells of each row by its line number."""
        return dict(self.sheet.rows)

    @cached_property
    def id_columns(self) -> frozenset[int]:
        """The columns of images, patients, studies and other ids."""
        columns = map(self.layout.columns.get, (*KEYS, *IDS))
        return frozenset(column for column in columns if column is not None)

    def usual_shape(self, column: int) -> str:
        """The shape of at least half of the cells of a column, if it has digits; otherwise ""."""
        if column not in self._shapes:
            cells = [row[column] for _, row in self.sheet.rows[:SAMPLE] if row[column]]
            shape, count = Counter(map(cell_shape, cells)).most_common(1)[0] if cells else ("", 0)
            self._shapes[column] = shape if "9" in shape and 2 * count >= len(cells) else ""
        return self._shapes[column]

    def value(
        self, line: int, cells: Cells, name: str, parse: Callable[[str], Value]
    ) -> Value | None:
        """The parsed cell of a field; None where it is empty or invalid."""
        text = cells.get(name)
        try:
            return None if text is None else parse(text)
        except SonoError as error:
            self.report(line, str(error), name)
            return None

    def unknown_planes(self) -> list[str]:
        """A message for each row whose plane is unknown."""
        listed = [one for found in self.unknown.values() for one in found]
        if len(self.unknown) > 1:  # each would repeat the list of all labels
            listed = [(line, problem.partition("; known: ")[0]) for line, problem in listed]
        return [
            f"{self.name}:{line}: {self.shown(line, problem, 'plane')}" for line, problem in listed
        ]

    def planes_problem(self) -> str:
        """A message that lists all unknown planes with their rows; "" for none.

        A table with unknown planes is not used.
        """
        found = group_messages(self.unknown_planes())
        column = self.layout.columns.get("plane", 0)
        hidden = self.before_headers and not all(
            self.may_show(line, column, problem)
            for listed in self.unknown.values()
            for line, problem in listed
        )
        advice = (
            "; correct the table, or give each label a plane under [study.planes] in sono.toml or "
            "in a planes file ([study] planes_file; docs/records.md)"
        )
        return "; ".join(found) + advice + "; --names shows the labels" * hidden if found else ""

    def require_known_planes(self) -> None:
        """SonoError with the section to paste if the table has unknown planes."""
        if self.unknown:
            raise SonoError(self.planes_problem(), self.planes_block())

    def planes_block(self) -> str:
        """A section for `sono.toml` with a line for each unknown label that may be shown.

        A label of a list that nobody has reviewed has the plane that it would mean.
        """
        column = self.layout.columns.get("plane", 0)
        lines = [
            f"{json.dumps(label, ensure_ascii=False)} = {self._proposed(label)}rows: {len(listed)}"
            for label, listed in self.unknown.items()
            if all(self.may_show(line, column, problem) for line, problem in listed)
        ]
        return "\n".join(("[study.planes]", *lines, "")) if lines else ""

    def _proposed(self, label: str) -> str:
        """The value for a label in `sono.toml`, and the beginning of its comment."""
        meant = self.planes.proposal(label)
        if meant is None:
            return '""  # '
        name = f" for {meant.outside}" if meant.outside else ""
        return f'"{meant.plane or OTHER}"  # {meant.language}{name}, not reviewed: confirm; '

    def outside_planes(self) -> dict[str, int]:
        """Rows by the known plane outside the 24 that they name, the most frequent first."""
        names = {label: self.planes.outside(label) for label in self.plane_ids}
        if not any(names.values()):
            return {}
        cells = (self.layout.cells(row).get("plane", "") for _, row in self.sheet.rows)
        counts = Counter(name for cell in cells if (name := names.get(cell)))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def private_texts(row: list[str], cells: Cells, layout: Layout) -> tuple[str, ...]:
    """The private strings of a row: its private cells and its patient id, in all their forms."""
    raw = [row[index] for index in layout.private] + [cells.get("patient", "")]
    private = [text for text in raw if text and text.casefold() not in NOT_PRIVATE]
    return tuple(dict.fromkeys(form for text in private for form in values.private_forms(text)))


def person_names(row: list[str], layout: Layout) -> tuple[str, ...]:
    """The names of persons in a row: the patient's, cell by cell and joined, and operators'."""
    names = [row[index] for index in layout.names]
    named = (*names, " ".join(filter(None, names)), *(row[index] for index in layout.operators))
    return tuple(dict.fromkeys(filter(None, named)))


@lru_cache(maxsize=1 << 12)  # rows of one patient follow each other
def cell_shape(cell: str) -> str:
    """The shape of a cell with runs of digits as one: `P1042` is A9, as `P7` is."""
    return re.sub(r"9+", "9", values.shape(cell))
