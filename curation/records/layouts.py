"""Assign the columns of a records table to fields: FETAL_PLANES_DB, HC18, or other layouts."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from sono.curation.clinical.values import shape, shown_name
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.records.delimited import Sheet, read_header
from sono.curation.records.titles import ALIASES, SEVERAL, field_of, guess_columns, parse_title

Cells = dict[str, str]
Titles = str | tuple[str, ...]  # of the columns of one field

# All columns of these fields are private, not only the first.
PRIVATE = (
    "patient", "study", "study_uid", "series", "instance", "accession", "name", "birth", "operator",
    "contact", "exam_date", "lmp", "due",
)  # fmt: skip
# cells that are copied to the images table
COPIED = frozenset(("center", "center_from", "machine"))
KEYS = ("image", "study_uid", "study", "accession", "patient")
# The names under which the known tables are published; other names may be those of persons.
PUBLISHED_TABLES = frozenset(
    ("FETAL_PLANES_DB_data.csv", "training_set_pixel_size_and_HC.csv", "test_set_pixel_size.csv")
)

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

    @property
    def used(self) -> frozenset[int]:
        """The indices of all columns that have a meaning."""
        return frozenset((*self.columns.values(), *self.private, *self.names, *self.operators))

    def cells(self, row: list[str]) -> Cells:
        """The cells of a row by field, without the empty ones."""
        return self.adjust(
            {field: row[index] for field, index in self.columns.items() if row[index]}
        )


class NoKeyColumnError(SonoError):
    """No column of a table names the image, the study or the patient."""


def find_layout(
    path: Path, header: tuple[str, ...], mapping: Mapping[str, Titles], center_from: str = ""
) -> Layout:
    """Find the layout of a table; `mapping` (field to columns, "" for none) overrides guesses.

    The column `center_from` becomes the field of this name: the center of the frames. Raises
    SonoError if no column identifies rows (NoKeyColumnError), a mapped column is missing, or a
    private one would be copied.
    """
    titles = [parse_title(column) for column in header]
    columns = guess_columns(titles)
    mapped = {field: _titles_of(field, given) for field, given in mapping.items()}
    wanted = tuple(chain.from_iterable(mapped.values()))
    shown = _showable_titles(header, bool(columns), (*wanted, center_from))
    further: list[tuple[str, int]] = []
    for field, given in mapped.items():
        columns.pop(_known_field(field), None)
        indices = [_column_index(path, header, column, shown) for column in given]
        if indices:
            columns[field] = indices[0]
            further += [(field, index) for index in indices[1:]]
    if center_from:
        columns["center_from"] = _column_index(path, header, center_from, shown)
    # the first row may contain names, so the message does not repeat it
    if not columns and any(_DATA.search(title) for title in header):
        raise SonoError(
            f"{path}: the first row looks like data, not like titles; give every column a title"
        )
    if not any(field in columns for field in KEYS):
        raise NoKeyColumnError(
            f"{path}: no column names the image, the study or the patient; its columns "
            f"{_format_titles(header, shown)}; name one under [records.columns] in the study's "
            'sono.toml, for example image = "TITLE" (or study, or patient), or export the table '
            "again with such a column"
        )
    known = known_layout(header)
    units = {field: titles[index][1] for field, index in columns.items() if titles[index][1]}
    all_columns = (*columns.items(), *further)
    private, names, operators = (
        _columns_of(fields, titles, all_columns) for fields in (PRIVATE, ("name",), ("operator",))
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


def layout_of_labels(path: Path, header: tuple[str, ...], column: str) -> Layout:
    """The layout of a table of which only the plane labels in `column` are read."""
    columns = {"plane": _column_index(path, header, column, header)}
    known = known_layout(header)
    if known:
        columns = guess_columns([parse_title(title) for title in header]) | columns
    return Layout(known or "table", columns, {}, (), (), (), _ADJUST.get(known, _unchanged))


def refuse_rivals(path: Path, sheet: Sheet, layout: Layout, mapping: Mapping[str, Titles]) -> None:
    """Raise SonoError if two columns of one field differ in a row and `mapping` chooses neither.

    Names of persons, operators and contacts may be in several columns.
    """
    titles = [parse_title(column) for column in sheet.header]
    for field, used in layout.columns.items():
        title = sheet.header[used].strip().casefold()
        chosen = bool(mapping.get(field)) or field == "center_from"
        for index, (name, unit) in enumerate(titles):
            same = sheet.header[index].strip().casefold() == title
            rival = same if chosen else same or field_of(name, unit) == field
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
    names = {name for name, _ in map(parse_title, header) if name}
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


def _columns_of(
    fields: Collection[str], titles: list[tuple[str, str]], columns: Iterable[tuple[str, int]]
) -> tuple[int, ...]:
    """The indices of all columns of `fields`, by title or by mapping."""
    names = {name for field in fields for name in ALIASES[field]}
    by_name = {index for index, (name, _) in enumerate(titles) if name in names}
    return tuple(sorted(by_name | {index for field, index in columns if field in fields}))


def _titles_of(field: str, given: Titles) -> tuple[str, ...]:
    """The titles that a setting gives to a field; SonoError for several where one is used."""
    titles = tuple(filter(None, (given,) if isinstance(given, str) else given))
    if len(titles) > 1 and field not in SEVERAL:
        raise SonoError(
            f"sono.toml: [records.columns] {field} takes one column, not {len(titles)}; only "
            f"{', '.join(SEVERAL)} may be a list"
        )
    return titles


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
