"""Clinical records: a row of the hospital's table for each image, study or patient, checked and typed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from sono.curation.config import Config
from sono.curation.errors import SonoError
from sono.curation.planes import OTHER, PlaneTable
from sono.curation.records import values
from sono.curation.records.files import read_sheet
from sono.curation.records.layouts import KEYS, Cells, Layout, find_known_table, find_layout
from sono.curation.records.table import Record, RecordsTable, path_parts

__all__ = ["Record", "RecordsConfig", "RecordsTable", "find_known_table", "read_records"]

Value = TypeVar("Value")

MAX_KEY = 1000  # characters
TEXTS = ("patient", "study", "accession", "center", "machine")
FIELDS = [item.name for item in fields(Record) if item.name not in ("key", "kind", "private")]
# Codes for "somebody else" that say nothing about a person.
NOT_PRIVATE = frozenset(("other", "others", "yes", "no"))


class RecordsConfig(Config):
    """How to read the records table: which column holds which field, and what cannot be found out from the file."""

    columns: dict[str, str] = Field(default_factory=dict)
    delimiter: str = ""
    encoding: str = ""
    findings: tuple[str, ...] = ()
    match_folders: bool = False  # take the name of a folder for a study or patient id


def read_records(
    path: Path, config: RecordsConfig, planes: PlaneTable, center_column: str | None = None
) -> RecordsTable:
    """Read a records table in FETAL_PLANES_DB's, HC18's or the hospital's own layout.

    A bad value is left out and told in `rejected`; an unknown plane is a SonoError, since it must be mended or given as
    an alias. The column `center_column` names the center, whatever else it holds.
    """
    sheet = read_sheet(path, config.delimiter, config.encoding)
    mapping = {**config.columns, **({"center": center_column} if center_column else {})}
    layout = find_layout(path, sheet.header, mapping)
    reading = Reading(path.name, layout, planes, (*values.FINDINGS, *config.findings))
    rows = [(line, _record(line, row, reading)) for line, row in sheet.rows]
    _check_planes(reading)
    kept = _merged(((line, record) for line, record in rows if record is not None), reading)
    return RecordsTable(tuple(kept), (*sheet.broken, *reading.problems), layout.name, config.match_folders)


@dataclass(frozen=True)
class Reading:
    """What the rows of one table are read with, and what is found wrong on the way."""

    name: str
    layout: Layout
    planes: PlaneTable
    findings: tuple[str, ...]
    problems: list[str] = field(default_factory=list)
    plane_ids: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, tuple[int, str]] = field(default_factory=dict)

    def tell(self, line: int, problem: str) -> None:
        """Note what is wrong with a row."""
        self.problems.append(f"{self.name}:{line}: {problem}")

    def value(self, line: int, cells: Cells, name: str, parse: Callable[[str], Value]) -> Value | None:
        """The parsed cell of a field; None where it is empty or wrong."""
        text = cells.get(name)
        try:
            return None if text is None else parse(text)
        except SonoError as error:
            self.tell(line, str(error))
            return None


def _record(line: int, row: list[str], reading: Reading) -> Record | None:
    cells = reading.layout.cells(row)
    kind, key = _key(cells)
    if not key or len(key) > MAX_KEY or not key.isprintable():
        reading.tell(line, f"names no image, study or patient ('{values.short(key)}'); the row is left out")
        return None
    plane = _plane(line, cells, reading)
    return Record(
        key=key,
        kind=kind,
        plane=plane,
        region=_region(line, cells, plane, reading),
        ga_days=_age(line, cells, reading),
        laterality=reading.value(line, cells, "laterality", values.laterality),
        presentation=reading.value(line, cells, "presentation", values.presentation),
        findings=_terms(line, cells, "findings", reading.findings, reading),
        structures=_terms(line, cells, "structures", reading.planes.structures, reading),
        private=_private(row, cells, reading.layout),
        **_texts(line, cells, reading),
        **_lengths(line, cells, reading),
    )


def _key(cells: Cells) -> tuple[str, str]:
    """Kind and key of a row: the image, else the study (or accession number), else the patient."""
    name = next((name for name in KEYS if name in cells), "")
    return "study" if name == "accession" else name, cells.get(name, "")


def _plane(line: int, cells: Cells, reading: Reading) -> str | None:
    label = cells.get("plane")
    if label is None:
        return None
    if label not in reading.plane_ids and label not in reading.unknown:
        try:
            reading.plane_ids[label] = reading.planes.find(label)
        except SonoError as error:
            reading.unknown[label] = (line, str(error))
    return reading.plane_ids.get(label)


def _check_planes(reading: Reading) -> None:
    if not reading.unknown:
        return
    (line, problem), *others = reading.unknown.values()
    more = f" ({len(others)} more unknown labels, from line {others[0][0]})" if others else ""
    raise SonoError(f"{reading.name}:{line}: {problem}{more}; mend the table or give an alias in the planes file")


def _region(line: int, cells: Cells, plane: str | None, reading: Reading) -> str | None:
    if plane is not None and plane != OTHER:
        return reading.planes.by_id[plane].region
    return reading.value(line, cells, "region", values.region)


def _age(line: int, cells: Cells, reading: Reading) -> int | None:
    try:
        return values.gestational_age(cells, reading.layout.units)
    except SonoError as error:
        reading.tell(line, str(error))
        return None


def _terms(line: int, cells: Cells, name: str, known: tuple[str, ...], reading: Reading) -> tuple[str, ...]:
    if name not in cells:
        return ()
    found, problems = values.terms(name.removesuffix("s"), cells[name], known)
    for problem in problems:
        reading.tell(line, problem)
    return found


def _texts(line: int, cells: Cells, reading: Reading) -> dict[str, Any]:
    return {name: reading.value(line, cells, name, values.text_value) for name in TEXTS}


def _lengths(line: int, cells: Cells, reading: Reading) -> dict[str, Any]:
    """Biometry and pixel spacing; one `spacing` serves both axes."""
    found = {}
    for name in values.RANGES_MM:
        if name in cells:
            parse = partial(values.measure_mm, name, unit=reading.layout.units.get(name, ""))
            found[f"{name}_mm"] = reading.value(line, cells, name, parse)
    both = found.pop("spacing_mm", None)
    return {"row_spacing_mm": both, "col_spacing_mm": both, **found}


def _private(row: list[str], cells: Cells, layout: Layout) -> tuple[str, ...]:
    raw = [row[index] for index in layout.private] + [cells.get("patient", "")]
    telling = [text for text in raw if text and text.casefold() not in NOT_PRIVATE]
    return tuple(dict.fromkeys(form for text in telling for form in values.private_forms(text)))


def _merged(rows: Iterable[tuple[int, Record]], reading: Reading) -> Iterable[Record]:
    """One record a key: of differing rows about an image the first, of rows about a patient what they agree on."""
    kept: dict[tuple[str, str], tuple[int, Record]] = {}
    for line, record in rows:
        place = (record.kind, "/".join(path_parts(record.key)))
        first_line, first = kept.setdefault(place, (line, record))
        if first is record:
            continue
        differing = [name for name in FIELDS if getattr(first, name) != getattr(record, name)]
        if not differing:
            continue
        what = "the first is kept" if record.kind == "image" else "these fields are left out"
        reading.tell(line, f"the {record.kind} of line {first_line} again, with another {', '.join(differing)}; {what}")
        if record.kind != "image":
            kept[place] = (first_line, _agreed(first, record, differing))
    return [record for _, record in kept.values()]


def _agreed(first: Record, second: Record, differing: list[str]) -> Record:
    nothing = Record("")
    private = tuple(dict.fromkeys((*first.private, *second.private)))
    return replace(first, private=private, **{name: getattr(nothing, name) for name in differing})
