"""Read delimited text tables with any delimiter, encoding and line end, with line numbers."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sono.curation.core.errors import SonoError, counted

DELIMITERS = (",", ";", "\t", "|")
NULLS = frozenset(
    ("", "na", "n/a", "n.a.", "#n/a", "nan", "none", "null", "nil", "-", "--", "?", "unknown")
)
NO_RESULT = "#NO RESULT!"  # a formula that no spreadsheet program has computed
ERRORS = frozenset(
    (
        "#ref!",
        "#value!",
        "#name?",
        "#div/0!",
        "#null!",
        "#num!",
        "#spill!",
        "#calc!",
        NO_RESULT.lower(),
    )
)
BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
MAX_COLUMNS = 2000
UNITS = frozenset(("mm", "cm", "weeks", "week", "wks", "wk", "days", "day"))
BLANKS = " \t\r\n\xa0\ufeff\u200b"

Lines = Iterator[tuple[int, list[str] | str]]  # line number, and cells or a problem


@dataclass(frozen=True)
class Sheet:
    """A table of text cells; `rows` has the number of the first line and the cells of each row.

    `broken` has a message for each row that cannot be read. `others` names the other sheets of the
    workbook, for the message that this sheet is no records table.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    broken: tuple[str, ...]
    notes: tuple[str, ...] = ()  # messages about the complete table
    others: str = ""


def read_text_table(path: Path, content: bytes, delimiter: str = "", encoding: str = "") -> Sheet:
    """Read a CSV or TSV file; an empty `delimiter` or `encoding` is detected.

    Raises SonoError if the content is not a table.
    """
    text = decode(path, content, encoding)
    if text[:4].lower() == "sep=":  # a spreadsheet's own hint
        hint, _, text = text.partition("\n")
        text, delimiter = "\n" + text, delimiter or hint.strip()[4:]
    with _cells_of_any_length():
        chosen = (
            "\t" if delimiter.lower() in ("tab", "\\t") else delimiter or _guess_delimiter(text)
        )
    if len(chosen) != 1:
        raise SonoError(
            f"{path}: the delimiter '{delimiter}' is not one character; correct "
            "'records.delimiter' in sono.toml"
        )
    return collect(path, _read_rows(path, text, chosen))


def read_header(path: Path) -> tuple[str, ...]:
    """The first row of a file, or () where it is not a table; reads only the first 4 kB."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
        first = _first_line(decode(path, head, ""))
        return tuple(
            clean(cell) for cell in next(csv.reader([first], delimiter=_guess_delimiter(first)), [])
        )
    except (OSError, SonoError, csv.Error):
        return ()


def clean(cell: str) -> str:
    """A cell without surrounding blanks and the spreadsheet notation `="0012"`.

    Every way of writing an empty value becomes "".
    """
    value = cell.strip(BLANKS)
    if value.startswith('="') and value.endswith('"'):
        value = value[2:-1]
    return "" if len(value) < 13 and value.lower() in NULLS else value


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises SonoError if it is missing, unreadable or empty."""
    if not path.is_file():
        raise SonoError(
            f"{path}: no such records table; give an existing CSV, TSV, XLSX, Parquet or JSON "
            f"lines file"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SonoError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    if not content.strip():
        raise SonoError(f"{path}: the table is empty; export it again")
    return content


def decode(path: Path, content: bytes, encoding: str) -> str:
    """Decode a file by its byte order mark, else `encoding`, UTF-8 or, last, Windows-1252.

    Raises SonoError for an unknown or wrong encoding and for binary content.
    """
    found = next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), "")
    try:
        text = content.decode(found or encoding or "utf-8")
    except LookupError as error:
        raise SonoError(
            f"{path}: unknown encoding '{encoding}'; correct 'records.encoding' in sono.toml"
        ) from error
    except UnicodeDecodeError as error:
        if found or encoding:
            raise SonoError(
                f"{path}: not {found or encoding} text ({error.reason}); save it as CSV UTF-8"
            ) from error
        text = content.decode("cp1252", errors="replace")
        if _is_foreign(text):
            raise SonoError(
                f"{path}: neither UTF-8 nor Windows-1252 text; save it as CSV UTF-8, or set "
                "'encoding' under [records] in sono.toml (for example \"cp1251\" for Cyrillic)"
            ) from error
    head = text[:4096]
    binary = head.count("\0") >= max(3, len(head) // 20)
    if binary or any(letter < " " and letter != "\t" for letter in _first_line(text)[:1000]):
        raise SonoError(
            f"{path}: not a text table (control characters at its start); save it as CSV UTF-8"
        )
    return text


def _is_foreign(text: str) -> bool:
    """Whether a text decoded as Windows-1252 has words of another script, which it garbles."""
    runs = re.finditer(r"[^\x00-\x7f]{4,}", text)
    return any(len(set(filter(str.isalpha, run[0]))) > 1 for run in runs)


def _first_line(text: str) -> str:
    """The first line that is not blank, without its line end."""
    return next(
        (line for line in re.split(r"[\r\n]+", text[:100_000].lstrip("\ufeff")) if line.strip()), ""
    )


def _guess_delimiter(text: str) -> str:
    """The delimiter that splits the first line that is not blank into the most cells."""
    first = _first_line(text)
    return max(
        DELIMITERS, key=lambda delimiter: len(next(csv.reader([first], delimiter=delimiter), []))
    )


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Line number and cells, or a problem, of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    with _cells_of_any_length():
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    raise SonoError(
                        f"{path.name}:{line}: a quotation mark in this row is never closed; "
                        "correct the row"
                    ) from error
                yield line, f"the row is not readable ({error})"
                continue
            if any(cells):
                yield line, [clean(cell) for cell in cells]


def collect(path: Path, lines: Lines) -> Sheet:
    """Collect `lines` (number, and cells or a problem) into a sheet; the first one is the header.

    Raises SonoError if there is no header or no row, or too many columns.
    """
    header, lines = _header(lines)
    if not header:
        raise SonoError(f"{path}: no header row; the first row must name the columns")
    if len(header) > MAX_COLUMNS:
        raise SonoError(
            f"{path}: {len(header)} columns, more than {MAX_COLUMNS}; keep those that sono should "
            f"read"
        )
    rows, broken = [], []
    errors: dict[str, list[int]] = {}
    for line, cells in lines:
        if isinstance(cells, str):
            broken.append(f"{path.name}:{line}: {cells}")
        elif any("\0" in cell for cell in cells):
            broken.append(f"{path.name}:{line}: the row contains a NUL byte and is left out")
        elif len(cells) < len(header) or any(cells[len(header) :]):
            broken.append(
                f"{path.name}:{line}: {counted(len(cells), 'cell')}"
                f" under {counted(len(header), 'column')}; the row is "
                f"left out"
            )
        elif any(cells):
            rows.append((line, [_without_error(cell, line, errors) for cell in cells]))
    if not rows and not broken:
        raise SonoError(f"{path}: a header without rows; export the table again")
    return Sheet(
        tuple(header),
        tuple(rows),
        tuple(broken),
        tuple(_format_error(*one) for one in errors.items()),
    )


def _without_error(cell: str, line: int, errors: dict[str, list[int]]) -> str:
    """The cell, or "" for a spreadsheet error, whose line is added to `errors`."""
    if cell[:1] != "#" or cell.lower() not in ERRORS:
        return cell
    errors.setdefault(cell.upper(), []).append(line)
    return ""


def _format_error(error: str, lines: list[int]) -> str:
    at = f"line {', '.join(map(str, lines[:3]))}{', ...' if len(lines) > 3 else ''}"
    read = "is read" if len(lines) == 1 else "are read"
    if error == NO_RESULT:
        return (
            f"{counted(len(lines), 'cell')} ({at}) with a formula without its result {read} as "
            "empty; open the workbook in a spreadsheet program and save it"
        )
    return (
        f"{counted(len(lines), 'cell')} ({at}) with the spreadsheet error {error} {read} as empty; "
        "correct the table"
    )


def _header(lines: Lines) -> tuple[list[str], Lines]:
    """The column titles and the lines below them.

    A single cell directly above a row of several cells is a heading of the sheet.
    """
    readable = (cells for _, cells in lines if isinstance(cells, list))
    header = next(readable, [])
    if len(header) > 1 and _filled(header) == 1:
        below = next(((number, cells) for number, cells in lines if isinstance(cells, list)), None)
        if below and _filled(below[1]) > 1:
            header = below[1]
        elif below:
            lines = chain([below], lines)
    while header and not header[-1]:
        header.pop()
    return _with_units(header, lines)


def _with_units(header: list[str], lines: Lines) -> tuple[list[str], Lines]:
    """The titles with their units, where the row below them contains only units."""
    below = next(lines, None)
    if below is None:
        return header, lines
    cells = below[1]
    units = [] if isinstance(cells, str) else [cell.strip("()[] ") for cell in cells[: len(header)]]
    if not any(units) or not all(unit.lower() in UNITS for unit in units if unit):
        return header, chain([below], lines)
    units += [""] * (len(header) - len(units))
    return [
        f"{title} ({unit})" if unit else title for title, unit in zip(header, units, strict=True)
    ], lines


def title_row(rows: list[list[str]]) -> int:
    """The index of the titles among the first `rows` of a sheet, as in `collect`; -1 for none."""
    filled = [index for index, cells in enumerate(rows) if _filled(cells)]
    if not filled:
        return -1
    heading = len(filled) > 1 and _filled(rows[filled[0]]) == 1 < _filled(rows[filled[1]])
    return filled[1] if heading else filled[0]


def _filled(cells: list[str]) -> int:
    return sum(map(bool, cells))
