"""Write the reference pages that come from the code: commands, tables and caption templates.

`make docs` runs it, and a test compares the pages with what it would write now.
"""

import inspect
import io
import sys
import tokenize
from itertools import pairwise
from pathlib import Path
from typing import Any, is_typeddict

import pyarrow as pa
import typer

import sono.cli
from sono.annotation.captioning.ontology import Ontology
from sono.annotation.lint import FINDINGS
from sono.curation.core import tables, vault_tables
from sono.curation.core.planes import PlaneTable
from sono.curation.core.table_checks import TableSpec
from sono.templates.allowed import FILTERS
from sono.templates.caption_values import TEMPLATE_VALUES
from sono.templates.loader import LEVEL_FILES, PROMPT_FILES

FOLDER = Path(__file__).parent / "reference"
NOTE = "This page is written by `docs/generate.py`; do not edit it."
SPECS = {
    tables.ImageRow: tables.IMAGES,
    tables.MaskRow: tables.MASKS,
    tables.CaptionRow: tables.CAPTIONS,
    tables.BiometryRow: tables.BIOMETRY,
    vault_tables.SourceRow: vault_tables.SOURCES,
}
MOST = 2**31 - 1  # of a column of 32-bit integers
TEMPLATES_INTRODUCTION = """A template set is a folder of Jinja files, selected by `template` or
`sets` under `[captions]` or by `sono captions build --set FOLDER`. The sets `fetalclip`, `multi`,
`short`, `sonoclip` and `standard` are built in ([captions](../captions.md)).

```jinja
A fetal ultrasound image
{%- if plane %} of the {{ plane }} plane{% endif %}
{%- if fl_mm %}, femur length {{ fl_mm | round }} mm{% endif %}.
```"""
VALUES_NOTE = f"""The examples are of one frame and one of its masks. A value that the record does
not have is null: test it with `if` first. Lists are given as English text. Sizes are those of the
images table. A template has values, `if`, comparisons and the filters
{", ".join(f"`{name}`" for name in FILTERS)}."""
TEXTS = {
    "global.j2": "the caption of a frame",
    "region.j2": "the caption of a mask",
    "prompts.j2": "short phrasings of a plane, one per line",
    "region_prompts.j2": "short phrasings of a structure",
    "unseen_prompts.j2": "phrasings of a plane that only the evaluation uses",
    "unseen_region_prompts.j2": "phrasings of a structure that only the evaluation uses",
}
FILES_NOTE = """The first two are required; the standard set's files are used for the others.
Further phrasings are `global_2.j2`, `region_2.j2` and so on: each frame and mask has one of them,
chosen by its id and `seed`."""
RULES_NOTE = """A caption that breaks a rule is refused: it is not written, and
`sono captions build` reports the rule with the file and the line of the template. With `--strict`
the command exits with code 3."""
PLANES_NOTE = """The tables are `curation/core/planes.toml`, `curation/core/plane_labels.toml` and
`curation/clinical/findings.toml`, which are easy to correct; `sono planes --json` has all of it
with sources. A study adds planes, labels and findings of its own ([records](../records.md)).
"weeks" are those in which the view is usual: `sono captions lint` remarks on another age."""
LABELS_NOTE = """A reviewed label is read as its plane, whatever its case, accents and signs. A
label of a list that nobody has reviewed is proposed: `sono qc` and `sono planes check` print the
line that confirms it under `[study.planes]`. A label outside the 24 leaves the frame without a
standard plane."""
FINDINGS_NOTE = """A caption names a finding on the planes that show one of its places; without
places it is stated for the study."""
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


def templates_page() -> str:
    """The files, values, filters and rules of caption templates, in Markdown."""
    parts = ["# Caption templates", "", NOTE, "", TEMPLATES_INTRODUCTION, "", "## Values", ""]
    parts += ["| value | type | example | meaning |", "|---|---|---|---|"]
    for name, value in TEMPLATE_VALUES.items():
        kind = "text" if isinstance(value.example, str) else "number"
        parts.append(f"| `{name}` | {kind} | `{value.example}` | {value.meaning} |")
    parts += [
        "",
        VALUES_NOTE,
        "",
        "## Files",
        "",
        FILES_NOTE,
        "",
        "| file | text | values |",
        "|---|---|---|",
    ]
    parts += [f"| `{file}` | {TEXTS[file]} | all |" for file in LEVEL_FILES.values()]
    parts += [f"| `{file}` | {TEXTS[file]} | `{value}` |" for file, value in PROMPT_FILES.values()]
    parts += ["", "## Rules", "", RULES_NOTE, "", "| rule | refuses |", "|---|---|"]
    parts += [f"| `{code}` | {meaning} |" for code, meaning in FINDINGS.items()]
    return "\n".join(parts) + "\n"


def planes_page() -> str:
    """The planes with their labels, the findings and the measures, in Markdown."""
    ontology = Ontology.of(PlaneTable())
    parts = ["# Planes and findings", "", NOTE, "", PLANES_NOTE, "", "## The 24 planes", ""]
    titles = ("plane", "name", "region", "weeks", "sides", "structures", "guideline")
    parts += [f"| {' | '.join(titles)} |", "|---|---|---|---|---|---|---|"]
    for plane in ontology.planes:
        weeks, structures = "-".join(map(str, plane["weeks"])), ", ".join(plane["structures"])
        facts = (plane["name"], plane["region"], weeks, plane["sides"], structures)
        row = (f"`{plane['id']}`", *facts, plane["guideline"] or "")
        parts.append(f"| {' | '.join(row)} |")
    parts += ["", "## Labels", "", LABELS_NOTE, "", "| plane | labels | language | reviewed |"]
    parts += ["|---|---|---|---|"]
    for one in (*ontology.planes, *ontology.outside):
        name = f"`{one['id']}`" if "id" in one else f"{one['name']} (outside the 24)"
        lists: dict[tuple[str, bool], list[str]] = {}
        for label in one["labels"]:
            lists.setdefault((label["language"], label["reviewed"]), []).append(label["text"])
        parts += [
            f"| {name} | {', '.join(texts)} | {language} | {'yes' if reviewed else 'no'} |"
            for (language, reviewed), texts in lists.items()
        ]
    parts += ["", "## Findings", "", FINDINGS_NOTE, "", "| finding | attribute | HPO | places |"]
    parts += ["|---|---|---|---|"]
    for one in ontology.findings:
        about = (one["name"], one["attribute"], one["hpo"] or "", ", ".join(one["places"]))
        parts.append(f"| {' | '.join(about)} |")
    parts += ["", "## Measures", "", "| measure | LOINC | convention |", "|---|---|---|"]
    parts += [f"| {o['measure']} | {o['loinc']} | {o['convention']} |" for o in ontology.measures]
    return "\n".join(parts) + "\n"


def pages() -> dict[Path, str]:
    """The generated pages by their path."""
    return {
        FOLDER / "commands.md": commands_page(),
        FOLDER / "tables.md": tables_page(),
        FOLDER / "templates.md": templates_page(),
        FOLDER / "planes.md": planes_page(),
    }


def _leaves(path: str, command: Any) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    own = not inner or command.invoke_without_command
    below = [leaf for name, one in inner.items() for leaf in _leaves(f"{path} {name}", one)]
    return [(path, command)] * own + below


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
    """The comment at or above each column in the declaration of a row.

    A row does not know its bases, so they are the rows in its module with the same columns.
    """
    found: dict[str, str] = {}
    for one in vars(sys.modules[row.__module__]).values():
        if is_typeddict(one) and one.__annotations__.items() <= row.__annotations__.items():
            found |= _comments_in(inspect.getsource(one))
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
