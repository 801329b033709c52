"""Write the reference pages that come from the code: commands and tables.

`make docs` runs it, and a test compares the pages with what it would write now.
"""

import inspect
import io
import tokenize
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import typer

import sono.cli
from sono.curation.core import tables, vault_tables
from sono.curation.core.table_checks import TableSpec

FOLDER = Path(__file__).parent / "reference"
NOTE = "This page is written by `docs/generate.py`; do not edit it."
SPECS = {
    tables.ImageRow: tables.IMAGES,
    tables.MaskRow: tables.MASKS,
    tables.CaptionRow: tables.CAPTIONS,
    vault_tables.SourceRow: vault_tables.SOURCES,
}
MOST = 2**31 - 1  # of a column of 32-bit integers
WHERE = {"sources": "study.vault/sources.parquet, which must stay in the building"}


def commands_page() -> str:
    """Every command with its arguments, options and defaults, in Markdown."""
    root = typer.main.get_command(sono.cli.app)
    parts = ["# Commands", "", NOTE, "", (root.help or "").strip(), ""]
    for path, command in _leaves("sono", root):
        about = inspect.cleandoc(command.help or "")
        parts += [f"## `{path}`", "", *_example_as_code(about), ""]
        rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts += ["| option | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def tables_page() -> str:
    """Every column of the tables with type, allowed values and meaning, in Markdown."""
    parts = ["# Tables", "", NOTE, ""]
    for row, spec in SPECS.items():
        place = WHERE.get(spec.name, f"{spec.name}.parquet")
        parts += [f"## {spec.name}", "", f"File: {place}. Key: {', '.join(spec.key)}.", ""]
        parts += ["| column | type | values | meaning |", "|---|---|---|---|"]
        meanings = _comments(row)
        for field in spec.schema:
            cells = (f"`{field.name}`", _type(field), _values(spec, field.name))
            parts.append(f"| {' | '.join(cells)} | {meanings.get(field.name, '')} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def pages() -> dict[Path, str]:
    """The generated pages by their path."""
    return {
        FOLDER / "commands.md": commands_page(),
        FOLDER / "tables.md": tables_page(),
    }


def _leaves(path: str, command: Any) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if not inner:
        return [(path, command)]
    return [leaf for name, below in inner.items() for leaf in _leaves(f"{path} {name}", below)]


def _example_as_code(text: str) -> list[str]:
    """The help of a command with its example as a code block."""
    before, mark, example = text.partition("Example:")
    lines = [before.strip()]
    if mark:
        lines += ["", "```", *(line.strip() for line in example.strip().splitlines()), "```"]
    return lines


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.name or '').upper()}`"
    default = parameter.default
    shown = "" if default is None or callable(default) or default in ((), False) else f"`{default}`"
    meaning = (getattr(parameter, "help", "") or "").replace("|", "\\|")
    return f"| {names} | {shown} | {meaning} |"


def _type(field: pa.Field) -> str:
    kind = {"string": "text", "list<item: string>": "list of texts", "double": "number"}
    name = kind.get(str(field.type), str(field.type))
    return name if field.nullable else f"{name}, required"


def _values(spec: TableSpec, column: str) -> str:
    if column in spec.choices and column != "reasons":
        return ", ".join(f"`{value}`" for value in spec.choices[column])
    if column in spec.ranges:
        low, high = spec.ranges[column]
        return f"at least {low:g}" if high == MOST else f"{low:g} to {high:g}"
    return "[reason codes](../reasons.md)" if column == "reasons" else ""


def _comments(row: type) -> dict[str, str]:
    """The comment at or above each column in the declaration of a row."""
    found: dict[str, str] = {}
    for base in (*getattr(row, "__orig_bases__", ()), row):
        if base is not TypedDict:
            found |= _comments_in(inspect.getsource(base))
    return {name: text.replace("|", "\\|") for name, text in found.items() if text}


def _comments_in(source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    above: list[str] = []
    column = ""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for token, after in pairwise(tokens):
        if token.type == tokenize.NAME and after.string == ":" and token.string != "False":
            column = token.string
            found[column], above = " ".join(above), []
        elif token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if token.line.strip().startswith("#"):
                above.append(text)
            elif column:
                found[column] = text
    return found


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
