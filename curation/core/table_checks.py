"""The contents that a table may have (columns, types, keys, choices, ranges), and their checks."""

import reprlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType, get_args, get_type_hints

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sono.curation.core.atomic import check_regular
from sono.curation.core.errors import SonoError

MAX_ROWS = 20_000_000  # of a table: more do not fit into memory
STUDY = b"sono_study"  # in a table's metadata: which study it is of

Range = tuple[float, float]
FINITE: Range = (-sys.float_info.max, sys.float_info.max)
_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
Long = NewType("Long", int)  # a column of 64-bit integers; those of int have 32 bits
ARROW_TYPES = {
    str: _TEXT,
    int: pa.int32(),
    Long: pa.int64(),
    float: pa.float64(),
    bytes: pa.binary(),
    list[str]: _TEXTS,
}


@dataclass(frozen=True)
class TableSpec:
    """Name, Arrow schema, unique key (also the sort order) and what the columns may hold."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)  # closed vocabularies
    # least and largest; other real numbers are finite
    ranges: dict[str, Range] = field(default_factory=dict)
    # regular expressions that must match the complete text
    patterns: dict[str, str] = field(default_factory=dict)
    # columns of files that are named by the id in another one
    file_ids: dict[str, str] = field(default_factory=dict)
    later: frozenset[str] = frozenset()  # columns that earlier versions did not write

    @property
    def columns(self) -> list[str]:
        """Column names in order."""
        return list(self.schema.names)


def check_file(path: Path, file: pq.ParquetFile, spec: TableSpec, study: str) -> None:
    """Raise SonoError if a file is another table, of another study, or has other columns.

    It is checked before the rows are read.
    """
    described, names = file.schema_arrow.metadata or {}, file.schema_arrow.names
    made_for = described.get(STUDY, b"").decode("utf-8", "replace")
    if study and made_for and made_for != study:
        raise SonoError(
            f"{path}: a table of another study (its mark is not {study}); put this study's own "
            f"table back"
        )
    if file.metadata.num_rows > MAX_ROWS:
        raise SonoError(
            f"{path}: {file.metadata.num_rows:,} rows; a table has at most {MAX_ROWS:,}"
        )
    twice = {name for name in names if names.count(name) > 1}
    odd = sorted(
        (set(names) - set(spec.columns)) | (set(spec.columns) - set(names) - spec.later) | twice
    )
    if odd:
        raise SonoError(
            f"{path}: columns {odd} do not fit the {spec.name} table: unknown, missing or "
            "duplicated; it was written by another version or changed by hand, run the stage again"
        )


@contextmanager
def readable(path: Path, spec: TableSpec, study: str) -> Iterator[pq.ParquetFile]:
    """Open and check the file of a table; SonoError if it is damaged, also during the block."""
    check_regular(path)
    try:
        with pq.ParquetFile(path) as file:
            check_file(path, file, spec, study)
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SonoError(
            f"{path}: not a readable Parquet table ({error}); delete it and run the stage again"
        ) from error


def has_mark(path: Path) -> bool:
    """Whether a table file names the study that it belongs to."""
    return STUDY in (pq.read_schema(path).metadata or {})


def typed(table: pa.Table, spec: TableSpec, where: str) -> pa.Table:
    """The table with the types of `spec`; SonoError for the first cell that cannot be converted."""
    columns = []
    for name in table.schema.names:
        column, field_ = table[name], spec.schema.field(name)
        try:
            columns.append(column.cast(field_.type))
        except (pa.ArrowException, ValueError) as error:
            row = next(
                (
                    row
                    for row in range(len(column))
                    if not _casts(column.slice(row, 1), field_.type)
                ),
                0,
            )
            raise SonoError(
                f"{where}: row {row + 1}: column '{name}' has {_shown(column[row].as_py())}, which "
                f"does not fit the "
                f"{spec.name} table ({field_.type})"
            ) from error
        if not field_.nullable and columns[-1].null_count:
            row = pc.index(columns[-1].is_null(), True).as_py()
            raise SonoError(
                f"{where}: row {row + 1}: column '{name}' of the {spec.name} table is empty"
            )
    return pa.Table.from_arrays(
        columns, schema=pa.schema([spec.schema.field(name) for name in table.schema.names])
    )


def _casts(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except (pa.ArrowException, ValueError):
        return False
    return True


def with_new_columns(table: pa.Table, spec: TableSpec, wanted: Sequence[str]) -> pa.Table:
    """The columns `wanted` of a table, perhaps of an earlier version.

    Columns that were added since are null.
    """
    for name in wanted:
        if name not in table.schema.names:
            field_ = spec.schema.field(name)
            table = table.append_column(field_, pa.nulls(len(table), field_.type))
    return table.select(list(wanted))


def arrow_of(frame: pd.DataFrame, spec: TableSpec, where: str) -> pa.Table:
    missing = [name for name in spec.columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in spec.columns]
    if missing or extra:
        raise SonoError(
            f"{where}: the {spec.name} table lacks columns {missing} and has unknown columns "
            f"{extra}"
        )
    try:
        table = pa.Table.from_pandas(frame[spec.columns], schema=spec.schema, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SonoError(f"{where}: a value does not fit the {spec.name} table: {error}") from error
    check_rows(table, spec, where)
    return table


def check_rows(table: pa.Table, spec: TableSpec, where: str) -> None:
    """Raise SonoError for a cell that `spec` does not allow, or two rows with the same key.

    Only the columns that `table` has are checked.
    """
    for name in table.schema.names:
        column = table[name]
        if name in spec.choices:
            plain = column.type == _TEXT
            fits = pc.is_in(
                column if plain else pc.list_flatten(column), pa.array(spec.choices[name], _TEXT)
            )
            fits = pc.or_(fits, column.is_null()) if plain else fits
            _refuse(name, column, fits, f"allowed: {', '.join(spec.choices[name])}", where)
        if name in spec.patterns:
            fits = pc.match_substring_regex(column, rf"\A(?:{spec.patterns[name]})\z")
            _refuse(name, column, fits, "not as sono writes it; run the stage again", where)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            least, most = spec.ranges.get(name, FINITE)
            found = pc.min_max(column)
            if (
                column.null_count < len(column)
                and not least <= found["min"].as_py() <= found["max"].as_py() <= most
            ):
                fits = pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))
                _refuse(name, column, fits, f"allowed: {least:g} to {most:g}", where)
    for name, identity in spec.file_ids.items():
        if {name, identity} <= set(table.schema.names):
            wanted = f"not the file of its {identity}; put this study's own table back"
            _refuse(name, table[name], _are_of(table[name], table[identity]), wanted, where)
    if set(spec.key) <= set(table.schema.names):
        keys = to_pandas(table.select(list(spec.key)))
        twice = keys.duplicated()
        if twice.any():
            row = keys[twice].iloc[0]
            raise SonoError(
                f"{where}: row {int(twice.argmax()) + 1}: two rows of the {spec.name} table share "
                f"{', '.join(f'{k}={row[k]}' for k in spec.key)}"
            )


def _are_of(files: pa.ChunkedArray, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether the name of each file is its id, perhaps with a hyphen and a checksum.

    The result is null if there is no file.
    """
    names = pc.replace_substring_regex(files, r"^.*/|[.][^.]*$", "")
    known = ids.fill_null("")
    return pc.or_(
        pc.equal(names, known), pc.equal(pc.replace_substring_regex(names, "-[^-]*$", ""), known)
    )


def _refuse(
    name: str, column: pa.ChunkedArray, fits: pa.ChunkedArray, wanted: str, where: str
) -> None:
    """Raise SonoError for the first cell of `column`, or list element, that is not allowed."""
    place = pc.index(fits, False).as_py()
    if place >= 0:
        row = pc.list_parent_indices(column)[place].as_py() if column.type == _TEXTS else place
        value = (pc.list_flatten(column) if column.type == _TEXTS else column)[place].as_py()
        raise SonoError(f"{where}: row {row + 1}: column '{name}' has {_shown(value)}; {wanted}")


def _shown(value: object) -> str:
    return reprlib.repr(value)


def schema_of(row: type) -> pa.Schema:
    """The schema of the columns that a TypedDict declares, in order.

    A column may be null where its type has `| None`.
    """
    hints = get_type_hints(row)
    return pa.schema([_field(name, hint) for name, hint in hints.items()])


def _field(name: str, hint: Any) -> pa.Field:
    kinds = get_args(hint) if type(None) in get_args(hint) else (hint,)
    return pa.field(name, ARROW_TYPES[kinds[0]], nullable=type(None) in kinds)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    nullable = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    # each column goes its own way into pandas and is given up as soon as it is there
    frame: pd.DataFrame = table.to_pandas(
        types_mapper=nullable.get, split_blocks=True, self_destruct=True
    )
    return frame
