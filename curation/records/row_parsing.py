"""One row of a records table to a typed record: ids, plane, age, biometry and texts."""

from collections.abc import Collection
from functools import partial
from typing import Any

from sono.curation.clinical import values
from sono.curation.clinical.dates import short
from sono.curation.clinical.placeholders import known_id
from sono.curation.core.column_values import RANGES_MM
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import OTHER
from sono.curation.records.layouts import KEYS, Cells
from sono.curation.records.row_age import RowAge, row_age
from sono.curation.records.row_merging import IDS
from sono.curation.records.table import Record, without_day
from sono.curation.records.table_reading import (
    TableReading,
    cell_shape,
    person_names,
    private_texts,
)

MAX_KEY = 1000  # characters
TEXTS = ("center", "center_from", "machine")
# Fields that describe one image.
OF_IMAGE = ("plane", "region", "laterality", "presentation", "findings", "structures", *RANGES_MM)


def parse_row(line: int, row: list[str], reading: TableReading) -> Record | None:
    """The record of a row; None where the row names no image, study or patient.

    Invalid cells are left out, and a row whose cells are in the wrong columns. `reading` collects
    the problems, unknown planes and the age.
    """
    before = len(reading.found)
    cells = _without_bad_ids(line, reading.layout.cells(row), reading)
    kind, key = _key(cells)
    if not key or len(key) > MAX_KEY or not key.isprintable():
        reading.report(
            line, f"names no image, study or patient ('{short(key)}'); the row is left out"
        )
        return None
    if kind != "image" and reading.names_images:
        cells = _without_image_fields(line, cells, reading)
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
        region=_body_region(line, cells, plane, reading),
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
        bmi_band=reading.value(line, cells, "bmi", values.bmi_band),
        parity=reading.value(line, cells, "parity", values.parity),
        findings=_terms(line, cells, "findings", reading.findings, reading),
        structures=_terms(line, cells, "structures", reading.planes.structures, reading),
        private=private_texts(row, cells, reading.layout),
        persons=person_names(row, reading.layout),
        **texts,
        **lengths,
    )
    invalid = {reading.layout.columns.get(field) for _, _, field in reading.found[before:]}
    if is_shifted(row, invalid, reading):
        reading.report(
            line,
            "a cell looks like those of the column next to it, so cells seem to be shifted; the "
            "row is left out; put a cell that contains the delimiter into quotation marks",
        )
        return None
    return without_day(record) if record.exam_date_unread else record


def is_shifted(row: list[str], invalid: Collection[int | None], reading: TableReading) -> bool:
    """Whether a cell belongs into a column next to it.

    Then it has the shape that most cells have there, and this row's cell there has not. Cells that
    are not `invalid` count if they would be an id there, which has a shape of its own.
    """
    # nearly all cells have the usual shape of their column, which is looked at first
    odd = (
        (other, usual)
        for other in (reading.id_columns if not invalid else range(len(row)))
        if row[other] and (usual := reading.usual_shape(other)) and cell_shape(row[other]) != usual
    )
    return any(
        0 <= at < len(row)
        and (at in invalid or other in reading.id_columns)
        and cell_shape(row[at]) == usual != reading.usual_shape(at)
        for other, usual in odd
        for at in (other - 1, other + 1)
    )


def _without_bad_ids(line: int, cells: Cells, reading: TableReading) -> Cells:
    """The cells without placeholder ids and without ids that a spreadsheet has rounded.

    Two patients may share a rounded id.
    """
    problems = {
        name: problem for name in IDS if (problem := values.id_problem(cells.get(name, "")))
    }
    for name, problem in problems.items():
        reading.report(line, f"the {name} id '{cells[name]}' {problem}")
    return {
        name: text
        for name, text in cells.items()
        if name not in IDS or (name not in problems and known_id(text))
    }


def _key(cells: Cells) -> tuple[str, str]:
    """Kind and key of a row: its image, else its study or accession number, else its patient."""
    name = next((name for name in KEYS if name in cells), "")
    return "study" if name in ("study_uid", "accession") else name, cells.get(name, "")


def _without_image_fields(line: int, cells: Cells, reading: TableReading) -> Cells:
    """The cells of a row without the fields of an image, because its image cell is empty."""
    lost = [name for name in OF_IMAGE if name in cells]
    if lost:
        reading.report(
            line,
            f"no image is named, although other rows name one, so values of an image are left out "
            f"({', '.join(lost)}); give the image, or put exams into a table of their own",
        )
    return {name: text for name, text in cells.items() if name not in lost}


def _plane(line: int, cells: Cells, reading: TableReading) -> str | None:
    label = cells.get("plane")
    if label is None:
        return None
    if label not in reading.plane_ids:
        try:
            reading.plane_ids[label] = reading.planes.find(label)
        except SonoError as error:
            reading.unknown.setdefault(label, []).append((line, str(error)))
    return reading.plane_ids.get(label)


def _body_region(line: int, cells: Cells, plane: str | None, reading: TableReading) -> str | None:
    if plane is not None and plane != OTHER:
        return reading.planes.by_id[plane].region
    return reading.value(line, cells, "region", values.region)


def _age(line: int, cells: Cells, lengths: dict[str, Any], reading: TableReading) -> RowAge:
    sizes_mm = {
        name: lengths[f"{name}_mm"]
        for name in ("crl", "hc")
        if lengths.get(f"{name}_mm") is not None
    }
    age = row_age(
        cells, reading.layout.units, sizes_mm, reading.rules, partial(reading.report, line)
    )
    reading.ages.append(age)
    return age


def _terms(
    line: int, cells: Cells, name: str, known: tuple[str, ...], reading: TableReading
) -> tuple[str, ...]:
    if name not in cells:
        return ()
    found, problems = values.terms(name.removesuffix("s"), cells[name], known)
    for problem in problems:
        reading.report(line, problem, name)
    return found


def _texts(line: int, cells: Cells, reading: TableReading) -> dict[str, Any]:
    """Ids, center and machine as written; a study may have a UID and a number of the hospital."""
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


def _lengths(line: int, cells: Cells, reading: TableReading) -> dict[str, Any]:
    """Biometry and pixel spacing in mm; one `spacing` is used for both axes."""
    found = {}
    for name in RANGES_MM:
        if name in cells:
            parse = partial(values.measure_mm, name, unit=reading.layout.units.get(name, ""))
            found[f"{name}_mm"] = reading.value(line, cells, name, parse)
    both = found.pop("spacing_mm", None)
    return {"row_spacing_mm": both, "col_spacing_mm": both, **found}
