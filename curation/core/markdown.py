"""Tables of GitHub's Markdown."""

import re
from collections.abc import Iterable, Sequence


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with one line per row; line breaks, bars and tags within cells are made harmless."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def harmless(value: object) -> str:
    """A text as one line, in which tags are only text."""
    return " ".join(re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", str(value)).split())


def _cell(value: object) -> str:
    return harmless(value).replace("|", "\\|")
