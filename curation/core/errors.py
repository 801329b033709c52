"""The one exception that users see, and the help it gives."""

from collections.abc import Iterable
from difflib import get_close_matches


class SonoError(Exception):
    """Something a user can mend: where, what (with the value), and what to do next."""

    exit_code = 1


MAX_NAME = 64  # characters


class IssuesError(SonoError):
    """The work is done, but `--strict` was asked for and there are findings."""

    exit_code = 3


class PrivacyError(SonoError):
    """Something private stands in what would be handed over."""

    exit_code = 4


class StoppedError(SonoError):
    """Work that was asked to stop has saved what it has, and says how to go on."""

    exit_code = 130


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`; did you mean 'femur'?` for the nearest of `known`, else the list of what is known."""
    choices = sorted(set(known))
    lowered = {choice.lower(): choice for choice in reversed(choices)}
    near = get_close_matches(value.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{lowered[near[0]]}'?"
    return f"; known: {', '.join(choices[:30])}{', ...' if len(choices) > 30 else ''}"


def typed_name(what: str, text: str) -> str:
    """The name typed for `what`, without blanks around it.

    SonoError unless it is one short printable line.
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
