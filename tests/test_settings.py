"""The page of settings lists every key of sono.toml with its default and range."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from sono.cli import SETTINGS, settings_model
from sono.curation.core.config import SECTIONS, Config

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "settings.md"
KINDS = {str: "text", float: "number", int: "whole number"}
Row = tuple[str, str, str]  # key, default, range


def rows_of_models() -> Iterator[tuple[str, list[Row]]]:
    for section in SETTINGS:
        yield from rows_of(section, settings_model(section))


def rows_of(section: str, model: type[Config]) -> Iterator[tuple[str, list[Row]]]:
    tables = {
        name: field.annotation
        for name, field in model.model_fields.items()
        if is_table(field.annotation)
    }
    keys = {name: field for name, field in model.model_fields.items() if name not in tables}
    yield section, [(f"`{name}`", shown(field), allowed(field)) for name, field in keys.items()]
    for name, inner in tables.items():
        assert inner is not None
        yield from rows_of(f"{section}.{name}", inner)


def is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def shown(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    return "unset" if default is None else f"`{json.dumps(default)}`"


def allowed(field: FieldInfo) -> str:
    """The bounds where there are some, else the values or the type."""
    bounds = {
        name: getattr(one, name)
        for one in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(one, name)
    }
    if not bounds:
        return named(field.annotation)
    low = f"above {bounds['gt']:g}" if "gt" in bounds else f"{bounds['ge']:g}"
    if "le" in bounds:
        return f"{low} to {bounds['le']:g}"
    if "lt" in bounds:
        return f"{low} to below {bounds['lt']:g}"
    return low if "gt" in bounds else f"at least {low}"


def named(kind: Any) -> str:
    if get_origin(kind) is UnionType:
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{json.dumps(one)}`" for one in get_args(kind))
    if get_origin(kind) is tuple:
        inner = named(get_args(kind)[0])
        return f"list of {inner}s" if inner in ("text", "number") else f"list of {inner}"
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        if get_origin(inner) is Literal:
            return f"table of {named(inner)}"
        if get_origin(inner) is UnionType:
            return "table of texts or lists"
        return "table of texts" if inner is str else "table of lists"
    return "`true`, `false`" if kind is bool else KINDS[kind]


def rows_of_page() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ").strip("`[]")] = []
        elif line.startswith("| `"):
            found[list(found)[-1]].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_page_tells_the_sections_in_their_order() -> None:
    assert list(rows_of_page()) == [section for section, _ in rows_of_models()]
    assert set(SETTINGS) == set(SECTIONS)


@pytest.mark.parametrize(("section", "rows"), list(rows_of_models()))
def test_the_page_tells_every_key_with_its_default_and_range(section: str, rows: list[Row]) -> None:
    told = rows_of_page()[section]
    assert [tuple(row[:3]) for row in told] == rows
    assert all(len(row) == 4 and re.search(r"[a-z]{3}", row[3]) for row in told)


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/settings.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
