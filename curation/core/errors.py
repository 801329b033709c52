"""The exceptions that users see, and suggestions for their messages."""

from collections.abc import Iterable
from difflib import get_close_matches


class SonoError(Exception):
    """An error that a user can fix: where, what (with the value), and what to do next.

    `block` is printed below the message as it is, for example lines to paste into `sono.toml`.
    """

    exit_code = 1

    def __init__(self, message: str, block: str = "") -> None:
        super().__init__(message)
        self.block = block


MAX_NAME = 64  # characters


class IssuesError(SonoError):
    """The work is done, but `--strict` was given and there are findings."""

    exit_code = 3


class PrivacyError(SonoError):
    """Files that may be shared contain something private."""

    exit_code = 4


class StoppedError(SonoError):
    """Work was interrupted; the message says what was kept and how to continue."""

    exit_code = 130


def counted(count: int, one: str, several: str = "") -> str:
    """`1 frame`, `2 frames`; `several` is the plural where it is not `one` with an s."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def near_match(value: str, known: Iterable[str]) -> str:
    """`; did you mean 'femur'?` for the nearest of `known`, "" where none is near."""
    lowered = {choice.lower(): choice for choice in sorted(set(known), reverse=True)}
    near = get_close_matches(value.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean '{lowered[near[0]]}'?" if near else ""


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`; did you mean 'femur'?` for the nearest of `known`, otherwise a list of `known`."""
    choices = sorted(set(known))
    listed = f"; known: {', '.join(choices[:30])}{', ...' if len(choices) > 30 else ''}"
    return near_match(value, choices) or listed


def typed_name(what: str, text: str) -> str:
    """The name typed for `what`, stripped.

    Raises SonoError unless it is one short printable line.
    """
    name = text.strip()
    if not name:
        raise SonoError(f"{what} is empty; give a name")
    if not name.isprintable():
        raise SonoError(
            f"{what} holds a line break or another sign that cannot be printed; type it without"
        )
    if len(name) > MAX_NAME:
        raise SonoError(
            f"{what} '{name[:20]}...' has {len(name)} characters; give a name of at most {MAX_NAME}"
        )
    return name
