"""Read records tables: delimited text, XLSX, Parquet and JSON lines, as text cells."""

import io
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sono.curation.core.errors import SonoError, counted, did_you_mean
from sono.curation.records.delimited import (
    NO_RESULT,
    Sheet,
    clean,
    collect,
    decode,
    read_bytes,
    read_text_table,
    title_row,
)

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook

ZIP, OLD_WORKBOOK, PARQUET = b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"PAR1"
OPEN_DOCUMENT = b"opendocument.spreadsheet"  # in the first member of the archive, uncompressed
MAX_UNPACKED = 1 << 30  # bytes; a table of a million rows has some 200 MB
EXACT_INTEGERS = 1e15  # a spreadsheet keeps 15 digits of a number

# What openpyxl and the XML parser raise on damaged workbooks.
_DAMAGED = (
    AttributeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    OSError,
    SyntaxError,
)
Cell = tuple[Any, str, str]  # value, kind of openpyxl, number format
_NO_CELL: Cell = (None, "n", "General")
TITLE_ROWS = 100  # the titles of a sheet are among its first rows
_MERGED = re.compile(
    rb'<(?:\w+:)?mergeCell\s[^>]*?ref="\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})"'
)
_ROW, _HIDDEN = re.compile(rb"<(?:\w+:)?row\s[^>]*>"), re.compile(rb'\shidden="(?:1|true)"')
_TAG_BYTES = 1000  # of a tag that one chunk begins and the next one ends
_LITERAL = r'((?:"[^"]*"|\\.|-)*)'
# 00000, or "P"00000 with text around the digits
_ID_FORMAT = re.compile(rf"{_LITERAL}(0+){_LITERAL}")
_TYPED_SUM = re.compile(r"=\s*(\d+\s*\+\s*\d+)", re.ASCII)  # an age like 22+3, taken for arithmetic


def read_sheet(path: Path, delimiter: str = "", encoding: str = "", sheet: str = "") -> Sheet:
    """Read a table of any format, which is recognized by its content.

    `sheet` names the sheet of a workbook; "" is the first visible one. Raises SonoError if the
    content is not a table.
    """
    content = read_bytes(path)
    if content.startswith(ZIP) and OPEN_DOCUMENT in content[:200]:
        raise SonoError(
            f"{path}: an OpenDocument spreadsheet (ODS); save it as XLSX or CSV (UTF-8)"
        )
    if content.startswith(ZIP):
        lines = list(_workbook_lines(path, content, sheet))
        notes, others = _workbook_notes(path, content, sheet)
        try:
            found = collect(path, iter(lines))
        except SonoError as error:
            raise SonoError(f"{error}{others}") from error
        return replace(found, notes=(*notes, *found.notes), others=others)
    if content.startswith(OLD_WORKBOOK):
        raise SonoError(f"{path}: a workbook of the old XLS format; save it as XLSX or CSV (UTF-8)")
    if content.startswith(PARQUET):
        return collect(path, _parquet_lines(path, content))
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return collect(path, _json_lines(path, decode(path, content, encoding)))
    return read_text_table(path, content, delimiter, encoding)


def cell_text(value: object) -> str:
    """A typed value as a person would write it; a list is joined by `; `."""
    if value is None or str(value) in ("nan", "NaT"):
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value)) if abs(value) < EXACT_INTEGERS else f"{value:.14E}"
    if isinstance(value, list | tuple):
        return "; ".join(filter(None, map(cell_text, value)))
    return clean(str(value))


def _workbook_lines(
    path: Path, content: bytes, sheet: str
) -> Iterator[tuple[int, list[str] | str]]:
    """The rows of a workbook; the results of formulas come from a second reading."""
    rows = _typed_rows(path, content, sheet)
    width = max((len(cells) for cells in rows), default=0)
    formulas = any(kind == "f" for cells in rows for _, kind, _ in cells)
    results = _typed_rows(path, content, sheet, results=True) if formulas else rows
    for number, (cells, values) in enumerate(zip(rows, results, strict=True), start=1):
        texts = [
            _workbook_text(cell, value) for cell, (value, _, _) in zip(cells, values, strict=True)
        ]
        if any(texts):
            yield number, texts + [""] * (width - len(texts))


def _typed_rows(path: Path, content: bytes, sheet: str, results: bool = False) -> list[list[Cell]]:
    """Every row of a sheet, with formulas or, with `results`, their last results."""
    from openpyxl.utils.exceptions import InvalidFileException

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and extensions, which are not used
        try:
            book = _open_workbook(path, content, results)
            chosen = _worksheet(path, book, sheet)
            rows = [
                [(cell.value, cell.data_type, cell.number_format) for cell in row]
                for row in chosen.iter_rows()
            ]
            _fill_merged(rows, _merged_cells(chosen))
            return rows
        except _DAMAGED as error:
            raise _no_workbook(path) from error
        except InvalidFileException as error:
            raise _no_workbook(path) from error


def _merged_cells(sheet: Any) -> list[tuple[int, int, int, int]]:
    """First column, first and last row, and last column (from 0) of each merged range, sorted.

    openpyxl omits the ranges when it streams a sheet.
    """
    return sorted(
        {
            (_column(at[1]), int(at[2]) - 1, int(at[4]) - 1, _column(at[3]))
            for at in _tags(sheet, _MERGED)
        }
    )


def _tags(sheet: Any, pattern: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
    """The tags of a sheet's XML that match `pattern`; one at a chunk border may come twice."""
    rest = b""
    with sheet._get_source() as stream:
        while chunk := stream.read(1 << 20):
            text = rest + chunk
            yield from pattern.finditer(text)
            rest = text[text.rfind(b"<") :][:_TAG_BYTES]


def _column(letters: bytes) -> int:
    from openpyxl.utils import column_index_from_string

    return int(column_index_from_string(letters.decode())) - 1


def _fill_merged(rows: list[list[Cell]], merged: list[tuple[int, int, int, int]]) -> None:
    """Copy the value of a merged cell to all its rows, in its first column.

    A title that is merged over columns is the title of each. Other cells merged with the titles are
    not changed.
    """
    titles = (
        title_row([[cell_text(value) for value, _, _ in row] for row in rows[:TITLE_ROWS]])
        if merged
        else 0
    )
    done: dict[int, int] = {}  # last row by column: ranges of a valid workbook never overlap
    for column, first, last, last_column in merged:
        if first == titles < len(rows):
            width = min(last_column + 1, max(map(len, rows)))
            rows[first].extend([_NO_CELL] * (width - len(rows[first])))
            rows[first][column:width] = rows[first][column : column + 1] * (width - column)
        if (
            first >= last
            or first <= max(titles, done.get(column, -1))
            or first >= len(rows)
            or column >= len(rows[first])
        ):
            continue
        done[column] = last
        for row in rows[first + 1 : last + 1]:
            row.extend([_NO_CELL] * (column + 1 - len(row)))
            if row[column][0] is None:
                row[column] = rows[first][column]


def _open_workbook(path: Path, content: bytes, results: bool) -> "Workbook":
    from zipfile import BadZipFile, ZipFile

    from openpyxl import load_workbook

    try:
        unpacked = sum(item.file_size for item in ZipFile(io.BytesIO(content)).infolist())
        if unpacked > MAX_UNPACKED:
            raise SonoError(
                f"{path}: unpacks to {unpacked} bytes, more than {MAX_UNPACKED}; save the table as "
                f"CSV (UTF-8)"
            )
        return load_workbook(io.BytesIO(content), read_only=True, data_only=results)
    except BadZipFile as error:
        raise _no_workbook(path) from error


def _no_workbook(path: Path) -> SonoError:
    return SonoError(f"{path}: not a readable XLSX workbook; save it again as XLSX or CSV (UTF-8)")


def _worksheet(path: Path, book: "Workbook", name: str) -> Any:
    """The sheet called `name`, or the first visible sheet of cells.

    SonoError with a suggestion where there is no such sheet.
    """
    names = [sheet.title for sheet in book.worksheets]
    if not names:
        raise SonoError(
            f"{path}: the workbook has no sheet of cells; save the table as XLSX or CSV (UTF-8)"
        )
    if name and name not in names:
        raise SonoError(
            f"{path}: no sheet '{name}'{did_you_mean(name, names)}; correct 'records.sheet' in "
            "sono.toml"
        )
    visible = [
        place for place, sheet in enumerate(book.worksheets) if sheet.sheet_state == "visible"
    ]
    sheet = book.worksheets[names.index(name) if name else (*visible, 0)[0]]
    sheet.reset_dimensions()  # some programs write wrong dimensions
    return sheet


def _workbook_notes(path: Path, content: bytes, name: str) -> tuple[tuple[str, ...], str]:
    """Messages on what a user of the workbook may not see: hidden or unused sheets, hidden rows.

    The second value ends the message on a sheet that is no records table; it names the others.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        book = _open_workbook(path, content, results=False)
    sheet = _worksheet(path, book, name)
    notes = []
    if not name and sheet is not book.worksheets[0]:
        notes.append(
            f"the first sheets are hidden, so '{sheet.title}' is read; [records] sheet in "
            f"sono.toml names another"
        )
    others = [
        other for other in book.worksheets if other is not sheet and other.sheet_state == "visible"
    ]
    filled = [other.title for other in others if _has_rows(other)]
    listed = ", ".join(f"'{title}'" for title in filled)
    advice = (
        f"; this is the sheet '{sheet.title}', and the workbook also has {listed}: set sheet = "
        f"{json.dumps(filled[0], ensure_ascii=False)} under [records] in sono.toml to read another"
        if filled
        else ""
    )
    if filled and not name:
        notes.append(
            f"only the sheet '{sheet.title}' is read, not {listed}; [records] sheet in sono.toml "
            f"names another"
        )
    hidden = {tag[0] for tag in _tags(sheet, _ROW) if _HIDDEN.search(tag[0])}
    if hidden:
        notes.append(
            f"{counted(len(hidden), 'hidden row of the sheet is', 'hidden rows of the sheet are')}"
            " read, too; delete what should not "
            f"count"
        )
    return tuple(notes), advice


def _has_rows(sheet: Any) -> bool:
    """Whether a sheet has at least two rows that are not empty, titles and data."""
    sheet.reset_dimensions()
    filled = (
        row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)
    )
    return len(list(islice(filled, 2))) == 2


def _workbook_text(cell: Cell, result: object) -> str:
    """The text of a cell.

    A number keeps the leading zeros that its format displays; a typed sum is kept as typed.
    """
    value, kind, number_format = cell
    typed_sum = _TYPED_SUM.fullmatch(str(value)) if kind == "f" else None
    if typed_sum:
        return typed_sum[1]
    if (
        kind == "n"
        and isinstance(value, int)
        and value >= 0
        and (shown := _ID_FORMAT.fullmatch(number_format))
    ):
        before, zeros, after = (re.sub(r'["\\]', "", part) for part in shown.groups())
        return before + str(value).zfill(len(zeros)) + after
    if kind == "f" and result is None:
        return NO_RESULT
    return cell_text(result if kind == "f" else value)


def _parquet_lines(path: Path, content: bytes) -> Iterator[tuple[int, list[str] | str]]:
    """The names of the columns, then the rows, numbered from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(content))
        yield 0, [clean(name) for name in table.schema_arrow.names]
        number = 0
        for batch in table.iter_batches():
            for row in zip(*map(_parquet_texts, batch.columns), strict=True):
                number += 1
                yield number, list(row)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SonoError(f"{path}: not a readable Parquet table; write it again") from error


def _parquet_texts(column: Any) -> list[str]:
    """The texts of a pyarrow array.

    A date out of range becomes a text that says so, so that its row is reported.
    """
    try:
        return _texts(column.to_pylist())
    except (OverflowError, ValueError):
        return [_scalar_text(scalar) for scalar in column]


def _scalar_text(scalar: Any) -> str:
    try:
        return cell_text(scalar.as_py())
    except (OverflowError, ValueError):
        return f"{scalar.type} out of range"


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, list[str] | str]]:
    """The names of all keys, then one object per line."""
    rows = [
        (number, _json_object(line))
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    names = list(dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row))
    yield 0, [clean(name) for name in names]
    for number, row in rows:
        yield number, row if isinstance(row, str) else _texts(row.get(name) for name in names)


def _texts(values: Iterable[object]) -> list[str]:
    return [cell_text(value) for value in values]


def _json_object(line: str) -> dict[str, object] | str:
    try:
        value = json.loads(line.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return "not a JSON object on one line; the row is left out"
    return value if isinstance(value, dict) else "not a JSON object; the row is left out"
