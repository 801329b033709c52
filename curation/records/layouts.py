"""Assign the columns of a records table to fields: FETAL_PLANES_DB, HC18, or other layouts."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sono.curation.clinical.values import shape, shown_name
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.records.delimited import Sheet, read_header

Cells = dict[str, str]

# Column names of each field, without a unit; the first name that a table has is used.
# fmt: off
ALIASES: dict[str, list[str]] = {field: names.split() for field, names in {
    "image": (
        "image image_name imagename image_file image_path file filename file_name file_path "
        "path stem"
    ),
    "patient": (
        "patient patient_id patientid patient_num patient_number patient_no pid mrn "
        "medical_record_number "
        "subject subject_id"
    ),
    "issuer": "issuer issuer_of_patient_id issuerofpatientid assigning_authority",
    "study": "study study_id studyid exam exam_id examination_id encounter encounter_id visit_id",
    "study_uid": "study_uid study_instance_uid studyinstanceuid",
    "series": "series_uid series_instance_uid seriesinstanceuid",
    "instance": "instance_uid sop_uid sop_instance_uid sopinstanceuid",
    "accession": "accession accession_number accession_no accessionnumber",
    "center": "center centre hospital site institution clinic",
    "machine": "machine us_machine device scanner ultrasound_machine equipment model device_model",
    "plane": "plane view standard_plane plane_label scan_plane label class",
    "brain_plane": "brain_plane",
    "region": "region body_region",
    "ga": "ga gestational_age gest_age gestation ga_at_exam",
    "exam_date": (
        "exam_date study_date scan_date examination_date date_of_exam date_of_scan "
        "visit_date date"
    ),
    "lmp": "lmp last_menstrual_period lmp_date last_period",
    "due": (
        "edd due due_date edc estimated_due_date expected_due_date expected_date_of_delivery "
        "estimated_date_of_delivery"
    ),
    "laterality": "laterality side",
    "presentation": "presentation fetal_presentation",
    "findings": "findings finding diagnosis diagnoses",
    "structures": "structures structure anatomies anatomy",
    "bpd": "bpd biparietal_diameter",
    "hc": "hc head_circumference",
    "ac": "ac abdominal_circumference",
    "fl": "fl femur_length",
    "crl": "crl crown_rump_length",
    "nt": "nt nuchal_translucency",
    "spacing": "pixel_size pixel_spacing spacing mm_per_pixel",
    "row_spacing": "row_spacing pixel_spacing_row spacing_y",
    "col_spacing": "col_spacing column_spacing pixel_spacing_col spacing_x",
    "sex": "sex patient_sex patientsex gender patient_gender",
    "name": (
        "name patient_name patientname first_name last_name surname family_name given_name "
        "mother_name"
    ),
    "birth": "dob date_of_birth birth_date birthdate birthday patient_birth_date patientbirthdate",
    "operator": (
        "operator operator_name sonographer physician referring_physician doctor examiner "
        "performed_by "
        "reported_by"
    ),
    "contact": "phone telephone email address ssn nhs_number insurance_number national_id",
}.items()}
# fmt: on

# All columns of these fields are private, not only the first.
PRIVATE = (
    "patient", "study", "study_uid", "series", "instance", "accession", "name", "birth", "operator",
    "contact", "exam_date", "lmp", "due",
)  # fmt: skip
# cells that are copied to the images table
COPIED = frozenset(("center", "center_from", "machine"))
SEVERAL = ("name", "operator", "contact")  # all columns with these fields are used
KEYS = ("image", "study_uid", "study", "accession", "patient")

_UNIT = re.compile(r"[\s_(\[]+(mm|cm|weeks?|wks?|days?)[\s)\]]*$")
_DATA = re.compile(r"\d{3}|\d[-./]\d|\.(?:png|jpe?g|dcm|bmp|tiff?)$", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """The fields of a table: column index and unit ("mm", "cm"; if given) of each field.

    `private`, `names` and `operators` are column indices; `adjust` changes the cells of a row.
    """

    name: str
    columns: Mapping[str, int]
    units: Mapping[str, str]
    private: tuple[int, ...]
    names: tuple[int, ...]  # of the patient
    operators: tuple[int, ...]
    adjust: Callable[[Cells], Cells]

    def cells(self, row: list[str]) -> Cells:
        """The cells of a row by field, without the empty ones."""
        return self.adjust(
            {field: row[index] for field, index in self.columns.items() if row[index]}
        )


def find_layout(
    path: Path, header: tuple[str, ...], mapping: Mapping[str, str], center_from: str | None = None
) -> Layout:
    """Find the layout of a table; `mapping` (field to column, "" for none) overrides guesses.

    The column `center_from` becomes the field of this name: the center of the frames. Raises
    SonoError if no column identifies rows, a mapped column is missing, or a private one would be
    copied.
    """
    titles = [_title(column) for column in header]
    columns = _guess(titles)
    shown = _showable_titles(header, bool(columns), (*mapping.values(), center_from or ""))
    for field, column in mapping.items():
        columns.pop(_known_field(field), None)
        if column:
            columns[field] = _column_index(path, header, column, shown)
    if center_from:
        columns["center_from"] = _column_index(path, header, center_from, shown)
    # the first row may contain names, so the message does not repeat it
    if not columns and any(_DATA.search(title) for title in header):
        raise SonoError(
            f"{path}: the first row looks like data, not like titles; give every column a title"
        )
    if not any(field in columns for field in KEYS):
        raise SonoError(
            f"{path}: no column names the image, the study or the patient; its columns "
            f"{_format_titles(header, shown)}; name one under [records.columns] in the study's "
            'sono.toml, for example image = "TITLE" (or study, or patient), or export the table '
            "again with such a column"
        )
    known = known_layout(header)
    units = {field: titles[index][1] for field, index in columns.items() if titles[index][1]}
    private, names, operators = (
        _columns_of(fields, titles, columns) for fields in (PRIVATE, ("name",), ("operator",))
    )
    for field in sorted(COPIED & columns.keys()):
        if columns[field] in (*private, columns.get("image")):
            option = "--center-from" if field == "center_from" else f"[records.columns] {field}"
            raise SonoError(
                f"{path}: the column '{header[columns[field]]}' contains names, ids or dates, and "
                f"{option} would copy it into every table; name another column"
            )
    adjust = _ADJUST.get(known, _unchanged)
    return Layout(known or "table", columns, units, private, names, operators, adjust)


def refuse_rivals(path: Path, sheet: Sheet, layout: Layout, mapping: Mapping[str, str]) -> None:
    """Raise SonoError if two columns of one field differ in a row and `mapping` chooses neither.

    Names of persons, operators and contacts may be in several columns.
    """
    titles = [_title(column) for column in sheet.header]
    for field, used in layout.columns.items():
        title = sheet.header[used].strip().casefold()
        chosen = bool(mapping.get(field)) or field == "center_from"
        for index, (name, unit) in enumerate(titles):
            same = sheet.header[index].strip().casefold() == title
            rival = same if chosen else same or _field_of(name, unit) == field
            if (
                field in SEVERAL
                or not rival
                or (index in layout.columns.values() and not same)
                or index == used
            ):
                continue
            line = next(
                (line for line, row in sheet.rows if not _same_cell(field, row[used], row[index])),
                None,
            )
            if line is not None and any(row[index] for _, row in sheet.rows):
                names = (
                    f"'{sheet.header[used]}' and '{sheet.header[index]}' (numbers {used + 1} "
                    f"and {index + 1})"
                )
                advice = (
                    f'{field} = "{sheet.header[index]}" or the other under [records.columns] '
                    f"in sono.toml"
                )
                advice = "rename or delete one" if same else f"choose one: {advice}"
                raise SonoError(
                    f"{path}:{line}: columns {names} both contain the {field} and differ; {advice}"
                )


def _field_of(name: str, unit: str) -> str:
    """The field of a title, "" for none."""
    field = next((field for field, aliases in ALIASES.items() if name in aliases), "")
    return field if field != "ga" or not unit else "ga_days" if unit.startswith("d") else "ga_weeks"


def _same_cell(field: str, one: str, other: str) -> bool:
    """Whether two cells have one value; of an image, one may be the end of the other's path."""
    first, second = (
        re.sub(r"\.0+$", "", text.strip().casefold().replace("\\", "/")) for text in (one, other)
    )
    if first == second or field != "image":
        return first == second
    short, long = sorted(
        (PurePosixPath(first), PurePosixPath(second)), key=lambda path: len(path.parts)
    )
    if not short.parts:
        return False
    ends = long.parts[-len(short.parts) :]
    return ends == short.parts or (*ends[:-1], PurePosixPath(ends[-1]).stem) == (
        *short.parts[:-1],
        short.stem,
    )


def known_layout(header: tuple[str, ...]) -> str:
    """ "fetal_planes_db" or "hc18" where the header is theirs, else ""."""
    names = {name for name, _ in map(_title, header) if name}
    if {"image_name", "patient_num", "plane", "brain_plane"} <= names:
        return "fetal_planes_db"
    if {"filename", "pixel_size", "head_circumference"} <= names or names == {
        "filename",
        "pixel_size",
    }:
        return "hc18"
    return ""


def find_known_table(root: Path, names: bool = False) -> Path | None:
    """Find the FETAL_PLANES_DB or HC18 table in `root` or its subfolders; None for none or several.

    A message shows the paths, masked unless `names` is set.
    """
    found = [
        path
        for pattern in ("*.csv", "*/*.csv")
        for path in sorted(root.glob(pattern))
        if _is_known(path)
    ]
    if len(found) > 1:
        listed = _listed(
            tuple(shown_name(path.relative_to(root).as_posix(), names) for path in found)
        )
        stderr_console.print(
            f"{root}: several records tables ({listed}), so none is used; give one with --records",
            markup=False,
        )
    return found[0] if len(found) == 1 else None


def _column_index(path: Path, header: tuple[str, ...], column: str, shown: tuple[str, ...]) -> int:
    """The index of `column` in the header, ignoring case and surrounding blanks.

    SonoError that lists the columns where it is missing.
    """
    wanted = column.strip().casefold()
    for index, title in enumerate(header):
        if title.casefold() == wanted:
            return index
    near = did_you_mean(column, shown) if shown else ""
    raise SonoError(
        f"{path}: no column '{column}'{near}; its columns {_format_titles(header, shown)}"
    )


def _showable_titles(
    header: tuple[str, ...], understood: bool, mapped: Iterable[str]
) -> tuple[str, ...]:
    """The titles that a message may show.

    There are none where no title is known, because the first row may contain names.
    """
    wanted = {column.strip().casefold() for column in mapped if column}
    return header if understood or wanted & {title.casefold() for title in header} else ()


def _format_titles(header: tuple[str, ...], shown: tuple[str, ...]) -> str:
    return (
        f"are {_listed(shown)}"
        if shown
        else f"look like {_listed(tuple(map(shape, header)))} (the first row must name them)"
    )


def _is_known(path: Path) -> bool:
    return path.is_file() and bool(known_layout(read_header(path)))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names[:40]) + (", ..." if len(names) > 40 else "")


def _title(column: str) -> tuple[str, str]:
    """Name and unit of a header: `Head circumference (mm)` is head_circumference in mm."""
    lowered = unicodedata.normalize("NFKC", column).casefold().strip()
    found = _UNIT.search(lowered)
    name, unit = (lowered[: found.start()], found[1]) if found else (lowered, "")
    return re.sub(r"\W+", "_", name).strip("_"), unit


def _guess(titles: list[tuple[str, str]]) -> dict[str, int]:
    """The column index of every field that is known by its title.

    Gestational age may be in two columns, weeks and days.
    """
    names = [name for name, _ in titles]
    found = {
        field: next((names.index(alias) for alias in aliases if alias in names), -1)
        for field, aliases in ALIASES.items()
    }
    columns = {field: index for field, index in found.items() if index >= 0}
    for index, (name, unit) in enumerate(titles):
        if name in ALIASES["ga"] and unit:
            columns.setdefault("ga_days" if unit.startswith("d") else "ga_weeks", index)
            if columns.get("ga") == index:
                del columns["ga"]
    return columns


def _columns_of(
    fields: Collection[str], titles: list[tuple[str, str]], columns: Mapping[str, int]
) -> tuple[int, ...]:
    """The indices of all columns of `fields`, by title or by mapping."""
    names = {name for field in fields for name in ALIASES[field]}
    by_name = {index for index, (name, _) in enumerate(titles) if name in names}
    return tuple(sorted(by_name | {index for field, index in columns.items() if field in fields}))


def _known_field(field: str) -> str:
    known = (*ALIASES, "ga_weeks", "ga_days")
    if field not in known:
        raise SonoError(
            f"sono.toml: [records.columns] has the unknown field "
            f"'{field}'{did_you_mean(field, known)}"
        )
    return field


def _unchanged(cells: Cells) -> Cells:
    return cells


def _fetal_planes(cells: Cells) -> Cells:
    """FETAL_PLANES_DB: the column of brain planes gives the plane of a brain.

    "Other" brain planes still show the head.
    """
    if cells.get("plane") != "Fetal brain":
        return {field: text for field, text in cells.items() if field != "brain_plane"}
    return {**cells, "plane": cells.get("brain_plane", ""), "region": "head"}


def _hc18(cells: Cells) -> Cells:
    """HC18: all frames show the head, with no plane label.

    The number before `_` is the patient id (of 000 it is 000_HC).
    """
    patient = re.match(r"(\d+)_\d*HC", cells.get("image", ""))
    return {
        "region": "head",
        **cells,
        **({"patient": patient[1] if patient[1].strip("0") else patient[0]} if patient else {}),
    }


_ADJUST: dict[str, Callable[[Cells], Cells]] = {"fetal_planes_db": _fetal_planes, "hc18": _hc18}
