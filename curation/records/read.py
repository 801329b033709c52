"""Clinical records: a row of the hospital's table for each image, study or patient, checked and
typed.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from sono.curation.clinical import values
from sono.curation.clinical.dates import count_orders, month_first_of, short
from sono.curation.clinical.name_variants import words_of
from sono.curation.core.column_values import RANGES_MM
from sono.curation.core.config import Config
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import OTHER, PlaneTable
from sono.curation.records.delimited import Sheet
from sono.curation.records.formats import read_sheet
from sono.curation.records.identity import known
from sono.curation.records.layouts import (
    KEYS,
    Cells,
    Layout,
    find_known_table,
    find_layout,
    refuse_rivals,
)
from sono.curation.records.messages import group_messages
from sono.curation.records.row_age import DATES, AgeRules, RowAge, row_age
from sono.curation.records.row_merging import IDS, merged
from sono.curation.records.sizes import leave_out_doubtful
from sono.curation.records.table import JoinRules, Record, RecordsTable, without_day

__all__ = ["Record", "RecordsConfig", "RecordsTable", "find_known_table", "read_records"]

Value = TypeVar("Value")

Measure = Literal["bpd", "hc", "ac", "fl", "crl", "nt"]

MAX_KEY = 1000  # characters
MAX_UNKNOWN = 10  # labels that one message lists
TEXTS = ("center", "center_from", "machine")
# What a row says of one picture.
OF_IMAGE = ("plane", "region", "laterality", "presentation", "findings", "structures", *RANGES_MM)
NOT_PRIVATE = frozenset(("other", "others", "yes", "no"))


class RecordsConfig(Config):
    """How to read the records table.

    Which column holds which field, and what cannot be found out from the file.
    """

    columns: dict[str, str] = Field(default_factory=dict)
    # of columns whose title names none
    units: dict[Measure, Literal["mm", "cm"]] = Field(default_factory=dict)
    sheet: str = ""  # of a workbook; its first by default
    delimiter: str = ""
    encoding: str = ""
    # what comes first in 03/04/2024; by default as other dates show
    date_order: Literal["", "day", "month"] = ""
    # what 22.3 means: 22 weeks and a third, or 22w3d
    ga_point: Literal["fraction", "days"] = "fraction"
    # best first
    ga_from: tuple[Literal["recorded", "due", "lmp", "crl", "hc"], ...] = ("recorded", "due", "lmp")
    findings: tuple[str, ...] = ()
    match_folders: bool = False  # take the name of a folder for a study or patient id
    # between a row's exam date and the study date of a file
    date_tolerance_days: int = Field(default=0, ge=0, le=30)


def read_records(
    path: Path, config: RecordsConfig, planes: PlaneTable, center_column: str | None = None
) -> RecordsTable:
    """The records of a table.

    SonoError for an unknown plane, which must be corrected or given as an alias.
    """
    reading = read_rows(path, config, planes, center_column)
    if reading.unknown:
        raise SonoError(reading.planes_problem())
    return merged_table(reading, config)


def read_rows(
    path: Path,
    config: RecordsConfig,
    planes: PlaneTable,
    center_column: str | None = None,
    known: Collection[str] = (),
) -> "Reading":
    """Read every row of a table in FETAL_PLANES_DB's, HC18's or the hospital's own layout by
    itself.

    A bad value is left out and reported in `problems`, unknown planes are in `unknown`. The column
    `center_column` names the center. No message shows a name of the table or of the `known`
    persons, to which `knowing` adds those of the headers. SonoError for no records table.
    """
    sheet = read_sheet(path, config.delimiter, config.encoding, config.sheet)
    layout = find_layout(path, sheet.header, config.columns, center_column)
    layout = replace(
        layout, units={**layout.units, **{str(field): unit for field, unit in config.units.items()}}
    )
    refuse_rivals(path, sheet, layout, config.columns)
    sheet, as_floats = _with_whole_ids(sheet, layout)
    orders = _date_orders(sheet, layout)
    chosen = config.date_order == "month" if config.date_order else None
    month_first = {
        name: month_first_of(name, orders) if chosen is None else chosen for name in orders
    }
    rules = AgeRules(config.ga_from, config.ga_point == "days", month_first)
    findings = (*values.FINDINGS, *config.findings)
    reading = Reading(path, sheet, layout, planes, findings, rules, orders, as_floats, known)
    for line, row in sheet.rows:
        record = _record(line, row, reading)
        if record is not None:
            reading.records.append(record)
    leave_out_doubtful(reading)
    return reading


def merged_table(reading: "Reading", config: RecordsConfig) -> RecordsTable:
    """The records of a reading, one a key."""
    kept = tuple(merged(reading))
    rules = JoinRules(config.date_tolerance_days, config.ga_from)
    return RecordsTable(
        kept,
        rejected(reading),
        reading.layout.name,
        config.match_folders,
        rules,
        _unused(reading),
        _doubts(reading, config),
    )


def rejected(reading: "Reading") -> tuple[str, ...]:
    """A message for all that is wrong with a table but its unknown planes, by the persons that
    are known now.
    """
    notes = (f"{reading.name}: {reading.shown_title(note)}" for note in reading.sheet.notes)
    return (*reading.sheet.broken, *notes, *reading.problems())


def _doubts(reading: "Reading", config: RecordsConfig) -> tuple[str, ...]:
    """What a table does not show and a setting would say.

    The order of day and month in its dates.
    """
    counts = sum(reading.orders.values(), Counter[str]())
    if config.date_order or not counts["either"] or counts["day"] or counts["month"]:
        return ()
    return (
        f"no date shows whether day or month comes first ({counts['either']} fit both): read day "
        f"first; "
        'set date_order = "day" or "month" in [records]',
    )


def _unused(reading: "Reading") -> tuple[str, ...]:
    layout = reading.layout
    meant = {*layout.columns.values(), *layout.private, *layout.names, *layout.operators}
    return tuple(
        reading.shown_title(title)
        for index, title in enumerate(reading.sheet.header)
        if index not in meant and any(row[index] for _, row in reading.sheet.rows)
    )


def _with_whole_ids(sheet: Sheet, layout: Layout) -> tuple[Sheet, tuple[str, ...]]:
    """The sheet with 4711 where a column of ids or file names holds 4711.0 throughout, and the
    titles of these.
    """
    titles = []
    rows = [list(cells) for _, cells in sheet.rows]
    for index in sorted({layout.columns[name] for name in KEYS if name in layout.columns}):
        whole = values.whole_ids([cells[index] for cells in rows])
        if whole is not None:
            titles.append(sheet.header[index])
            for cells, text in zip(rows, whole, strict=True):
                cells[index] = text
    lines = [line for line, _ in sheet.rows]
    return replace(sheet, rows=tuple(zip(lines, rows, strict=True))), tuple(titles)


def _date_orders(sheet: Sheet, layout: Layout) -> dict[str, Counter[str]]:
    columns = {name: layout.columns[name] for name in (*DATES, "birth") if name in layout.columns}
    return {
        name: count_orders(row[index] for _, row in sheet.rows) for name, index in columns.items()
    }


@dataclass(frozen=True)
class Reading:
    """What the rows of one table are read with, and what is found wrong on the way.

    A problem is kept with its row and field, and worded when it is asked for, by the persons that
    are known then.
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
    # the names in the headers are not known yet: only what is like a known word is shown
    before_headers: bool = False
    records: list[Record] = field(default_factory=list)
    ages: list[RowAge] = field(default_factory=list)
    found: list[tuple[int, str, str]] = field(default_factory=list)  # line, problem and field
    plane_ids: dict[str, str] = field(default_factory=dict)
    # planes: lines and what is wrong
    unknown: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    # lines that say again what an earlier one says
    repeated: list[int] = field(default_factory=list)
    conflicting: list[int] = field(default_factory=list)  # lines that say otherwise

    @property
    def name(self) -> str:
        return self.path.name

    def tell(self, line: int, problem: str, field: str = "") -> None:
        """Note what is wrong with a row.

        The cell that a problem quotes is shown as it is if its column may be.
        """
        self.found.append((line, problem, field))

    def knowing(self, persons: Collection[str]) -> "Reading":
        """The same rows and problems, once the names in the headers of the files are known, too."""
        return replace(self, known_persons=(*self.known_persons, *persons), before_headers=False)

    def problems(self) -> list[str]:
        """What is wrong with the rows, each with its place."""
        return [
            f"{self.name}:{line}: {self.shown(line, problem, field)}"
            for line, problem, field in self.found
        ]

    def shown(self, line: int, problem: str, field: str) -> str:
        """A problem with a cell of `field`, or with its look where the column, or what it
        repeats, is private.
        """
        at = self.layout.columns.get(field)
        return (
            problem
            if at is not None and self.may_show(line, at, problem)
            else values.masked(problem)
        )

    def shown_title(self, title: str) -> str:
        """A title of a column, or a sentence on a sheet, as it is or by its look where it names
        somebody.
        """
        return title if self.persons.isdisjoint(words_of(title)) else values.shape(title)

    def may_show(self, line: int, column: int, problem: str = "") -> bool:
        """Whether a message may show the cell of a row as it is.

        A suggestion in the `problem` says what it is like.
        """
        row = self.rows_by_line[line]
        cell = row[column]
        words = re.findall(r"\w+", cell)
        unlike = self.before_headers and not (
            values.is_slip(problem, cell) or values.is_short_number(cell)
        )
        if column in self.layout.private or unlike:
            return False
        if values.may_name_somebody(words) and self.vocabulary.isdisjoint(map(str.casefold, words)):
            return False
        private = self.persons | words_of(
            *_private(row, {}, self.layout), *_persons(row, self.layout)
        )
        return not any(len(word) > 2 for word in private & words_of(cell))

    @cached_property
    def persons(self) -> frozenset[str]:
        """The words of all names of persons that are known.

        Of the whole table and of the study's vault.
        """
        rows = (name for _, row in self.sheet.rows for name in _persons(row, self.layout))
        return words_of(*rows, *self.known_persons) - self.vocabulary

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The words of planes, structures and findings, which name nobody."""
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
        """Whether a row names an image: then one that names none is about no picture."""
        column = self.layout.columns.get("image")
        return column is not None and any(row[column] for _, row in self.sheet.rows)

    @cached_property
    def rows_by_line(self) -> dict[int, list[str]]:
        return dict(self.sheet.rows)

    def value(
        self, line: int, cells: Cells, name: str, parse: Callable[[str], Value]
    ) -> Value | None:
        """The parsed cell of a field; None where it is empty or wrong."""
        text = cells.get(name)
        try:
            return None if text is None else parse(text)
        except SonoError as error:
            self.tell(line, str(error), name)
            return None

    def unknown_planes(self) -> list[str]:
        """A message for each row whose plane is unknown."""
        listed = (one for found in self.unknown.values() for one in found)
        return [
            f"{self.name}:{line}: {self.shown(line, problem, 'plane')}" for line, problem in listed
        ]

    def planes_problem(self) -> str:
        """The unknown planes with their rows, "" for none.

        Nothing is read from a table that has any.
        """
        found = group_messages(self.unknown_planes())
        if len(found) > 1:  # the list of all labels would come again with each
            found = [problem.partition("; known: ")[0] for problem in found]
        more = (
            f"; ... and {len(found) - MAX_UNKNOWN} more labels" if len(found) > MAX_UNKNOWN else ""
        )
        advice = "; correct the table or give an alias in the planes file"
        advice += (
            "; --names shows the labels"
            if self.before_headers and any("'" in one for one in found)
            else ""
        )
        return "; ".join(found[:MAX_UNKNOWN]) + more + advice if found else ""


def _record(line: int, row: list[str], reading: Reading) -> Record | None:
    cells = _sound_ids(line, reading.layout.cells(row), reading)
    kind, key = _key(cells)
    if not key or len(key) > MAX_KEY or not key.isprintable():
        reading.tell(
            line, f"names no image, study or patient ('{short(key)}'); the row is left out"
        )
        return None
    if kind != "image" and reading.names_images:
        cells = _of_no_image(line, cells, reading)
    plane = _plane(line, cells, reading)
    name = " ".join(filter(None, (row[index] for index in reading.layout.names)))
    lengths, texts = _lengths(line, cells, reading), _texts(line, cells, reading)
    age = _age(line, cells, lengths, reading)
    birth = partial(
        values.birth, age.dates.get("exam_date"), reading.rules.month_first.get("birth", False)
    )
    record = Record(
        key=key,
        kind=kind,
        line=line,
        plane=plane,
        region=_region(line, cells, plane, reading),
        ga_days=age.days,
        ga_source=age.source,
        ga_conflicts=age.conflicts,
        sex=reading.value(line, cells, "sex", values.sex),
        name=name or None,
        birth=reading.value(line, cells, "birth", birth),
        exam_date=age.dates.get("exam_date"),
        lmp=age.dates.get("lmp"),
        due=age.dates.get("due"),
        exam_date_unread=age.exam_date_unread,
        stated=age.stated,
        laterality=reading.value(line, cells, "laterality", values.laterality),
        presentation=reading.value(line, cells, "presentation", values.presentation),
        findings=_terms(line, cells, "findings", reading.findings, reading),
        structures=_terms(line, cells, "structures", reading.planes.structures, reading),
        private=_private(row, cells, reading.layout),
        persons=_persons(row, reading.layout),
        **texts,
        **lengths,
    )
    return without_day(record) if record.exam_date_unread else record


def _sound_ids(line: int, cells: Cells, reading: Reading) -> Cells:
    """The cells without ids that stand for nobody, and those that a spreadsheet has rounded.

    Two patients share them.
    """
    problems = {
        name: problem for name in IDS if (problem := values.id_problem(cells.get(name, "")))
    }
    for name, problem in problems.items():
        reading.tell(line, f"the {name} id '{cells[name]}' {problem}")
    return {
        name: text
        for name, text in cells.items()
        if name not in IDS or (name not in problems and known(text))
    }


def _key(cells: Cells) -> tuple[str, str]:
    """Kind and key of a row: the image, else the study (or accession number), else the patient."""
    name = next((name for name in KEYS if name in cells), "")
    return "study" if name in ("study_uid", "accession") else name, cells.get(name, "")


def _of_no_image(line: int, cells: Cells, reading: Reading) -> Cells:
    """The cells of a row without what belongs to a picture, as its cell for the image is empty."""
    lost = [name for name in OF_IMAGE if name in cells]
    if lost:
        told = f"names no image, as other rows do, so its {', '.join(lost)} is of no known picture"
        reading.tell(line, f"{told} and is left out; give the image, or a table of exams by itself")
    return {name: text for name, text in cells.items() if name not in lost}


def _plane(line: int, cells: Cells, reading: Reading) -> str | None:
    label = cells.get("plane")
    if label is None:
        return None
    if label not in reading.plane_ids:
        try:
            reading.plane_ids[label] = reading.planes.find(label)
        except SonoError as error:
            reading.unknown.setdefault(label, []).append((line, str(error)))
    return reading.plane_ids.get(label)


def _region(line: int, cells: Cells, plane: str | None, reading: Reading) -> str | None:
    if plane is not None and plane != OTHER:
        return reading.planes.by_id[plane].region
    return reading.value(line, cells, "region", values.region)


def _age(line: int, cells: Cells, lengths: dict[str, Any], reading: Reading) -> RowAge:
    sizes_mm = {
        name: lengths[f"{name}_mm"]
        for name in ("crl", "hc")
        if lengths.get(f"{name}_mm") is not None
    }
    age = row_age(cells, reading.layout.units, sizes_mm, reading.rules, partial(reading.tell, line))
    reading.ages.append(age)
    return age


def _terms(
    line: int, cells: Cells, name: str, known: tuple[str, ...], reading: Reading
) -> tuple[str, ...]:
    if name not in cells:
        return ()
    found, problems = values.terms(name.removesuffix("s"), cells[name], known)
    for problem in problems:
        reading.tell(line, problem, name)
    return found


def _texts(line: int, cells: Cells, reading: Reading) -> dict[str, Any]:
    """Ids and names as they are written.

    Of a study with a UID and a number of the hospital's both.
    """
    if "study_uid" in cells:
        cells = {**cells, "study": cells["study_uid"], "study_number": cells.get("study", "")}
    known = {name: text for name in (*IDS, *TEXTS) if (text := cells.get(name))}
    found = {
        name: reading.value(line, known, name, partial(values.text_value, name))
        for name in (*IDS, *TEXTS)
    }
    center, named = found["center"], found.pop("center_from")
    return {
        **found,
        "site": center,
        "center": named if "center_from" in reading.layout.columns else center,
    }


def _lengths(line: int, cells: Cells, reading: Reading) -> dict[str, Any]:
    """Biometry and pixel spacing; one `spacing` serves both axes."""
    found = {}
    for name in RANGES_MM:
        if name in cells:
            parse = partial(values.measure_mm, name, unit=reading.layout.units.get(name, ""))
            found[f"{name}_mm"] = reading.value(line, cells, name, parse)
    both = found.pop("spacing_mm", None)
    return {"row_spacing_mm": both, "col_spacing_mm": both, **found}


def _private(row: list[str], cells: Cells, layout: Layout) -> tuple[str, ...]:
    raw = [row[index] for index in layout.private] + [cells.get("patient", "")]
    telling = [text for text in raw if text and text.casefold() not in NOT_PRIVATE]
    return tuple(dict.fromkeys(form for text in telling for form in values.private_forms(text)))


def _persons(row: list[str], layout: Layout) -> tuple[str, ...]:
    """The names in a row.

    Those of a patient may be in several columns, first name and last name.
    """
    names = [row[index] for index in layout.names]
    named = (*names, " ".join(filter(None, names)), *(row[index] for index in layout.operators))
    return tuple(dict.fromkeys(filter(None, named)))
