"""Group messages on rows of a records table, so that each problem is printed once."""

import re
from collections.abc import Iterable

FIRST_LINES = 3

_PLACE = re.compile(r"(?P<file>.*?):(?P<line>\d+): (?P<problem>.*)", re.DOTALL)


def group_messages(messages: Iterable[str]) -> list[str]:
    """Group `FILE:LINE: PROBLEM` messages by file and problem, with their count and first lines."""
    lines: dict[tuple[str, str], list[str]] = {}
    for message in messages:
        found = _PLACE.fullmatch(message)
        place = (found["file"], found["problem"]) if found else ("", message)
        lines.setdefault(place, []).append(found["line"] if found else "")
    return [_format_group(file, problem, at) for (file, problem), at in lines.items()]


def _format_group(file: str, problem: str, lines: list[str]) -> str:
    if not file:
        return problem
    if len(lines) == 1:
        return f"{file}:{lines[0]}: {problem}"
    more = ", ..." if len(lines) > FIRST_LINES else ""
    return f"{file}: {len(lines)} rows (line {', '.join(lines[:FIRST_LINES])}{more}): {problem}"
