"""Tables of results as files: CSV with numbers; Markdown, LaTeX and HTML with texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.curation.core.atomic import check_target, write_text
from sono.curation.core.errors import SonoError
from sono.curation.core.markdown import harmless, markdown_table
from sono.curation.core.workspace import Workspace
from sono.evaluation.result_tables import MISSING
from sono.templates.reports import render_report

LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    MISSING: "--",
    # of the default encoding of fonts, in which these letters print others
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class TextTable:
    """A table with texts in its cells; `csv` is the same table with numbers.

    `numbers` are the columns with counts.
    """

    name: str
    title: str
    headings: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    explanation: str
    csv: str
    notes: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


def check_outputs(workspace: Workspace | None, outputs: Sequence[Path]) -> None:
    """Raise SonoError for a file that cannot be written, or whose format is unknown."""
    for path in outputs:
        if path.suffix.lower() not in WRITERS:
            raise SonoError(f"{path}: unknown format; name it {', '.join(WRITERS)}")
        if workspace is None:
            check_target(path)
        else:
            workspace.check_output(path)


def write_table(table: TextTable, path: Path) -> None:
    """Write the table in the format of the file's name."""
    write_text(path, WRITERS[path.suffix.lower()](table))


def csv_text(table: TextTable) -> str:
    """One line per row, with numbers."""
    return table.csv


def markdown_text(table: TextTable) -> str:
    """A table of GitHub's Markdown."""
    text = markdown_table(table.headings, table.rows)
    notes = "\n".join(f"- {harmless(note)}" for note in table.notes)
    parts = [harmless(table.title), text, harmless(table.explanation), notes]
    return "\n\n".join(filter(None, parts)) + "\n"


def latex_text(table: TextTable) -> str:
    """A tabular with the rules of booktabs."""
    columns = "".join(
        "r" if place in table.numbers else "l" for place in range(len(table.headings))
    )
    lines = [
        *(f"% {' '.join(text.split())}" for text in (table.title, table.explanation, *table.notes)),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row(table.headings),
        r"\midrule",
        *map(_latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def html_text(table: TextTable) -> str:
    """A page of its own."""
    return render_report("table.html.j2", table=table)


def _latex_row(cells: Sequence[str]) -> str:
    texts = ["".join(LATEX.get(letter, letter) for letter in cell) for cell in cells]
    if texts[0].startswith(("[", "*")):  # else an argument of the line break before it
        texts[0] = "{}" + texts[0]
    return " & ".join(texts) + r" \\"


WRITERS: dict[str, Callable[[TextTable], str]] = {
    ".csv": csv_text,
    ".md": markdown_text,
    ".tex": latex_text,
    ".html": html_text,
}
