"""Recognize ids of patients and exams that are written in groups, among other numbers."""

import re
from collections.abc import Iterator
from itertools import chain

from sono.curation.clinical.name_variants import (
    GROUPED,
    HYPHENS,
    MAX_GROUPS,
    MIN_DIGITS,
    MIN_ID_DIGITS,
    MIN_WORD,
    Phrase,
    normalize,
    tokens_of,
    unpadded,
)

_LETTERED = re.compile(r"(?<![^\W_])[a-z]{1,5}[-./_ ]\d{3,}(?![^\W_]|[.,]\d)")  # A-1234
_GROUP = re.compile(r"[^\W_]+")
_SIGN, _SIGN_IN_PAGE = re.compile(r" ?[-./_#\\] ?"), re.compile(r"[-./_#\\]")
# An id may begin or end at these signs: 88-77-66_0001.png contains 88-77-66, 88-77-66-01 does not.
_EDGES = " /_"
_DECIMAL = re.compile(r"\d+\.\d+")
# Times and versions have several points; in 20240131.4711223 a date precedes an id.
_FRACTION = re.compile(r"(?<![^\W_])(?<!\d\.)(\d{0,6})\.\d{4,}(?:e[-+]?\d+)?(?!\.?\w)")
_PREFIXED = re.compile(r"[^\W\d_]{1,3}[\W_]?\d{3,}")


def looks_like_id(text: str) -> bool:
    """Whether the text of an element for ids is specific enough to be searched for.

    It must have five digits, or three after one to three letters. Exam numbers such as 1, A or
    Twins2 are not.
    """
    return (
        sum(map(str.isdigit, text)) >= MIN_ID_DIGITS
        or _PREFIXED.fullmatch(text.strip()) is not None
    )


def id_spellings(text: str, own: frozenset[str]) -> Iterator[Phrase]:
    """Yield an id without the signs between its groups, if it has a digit and is long enough.

    An id in the form of a numbered word (A1234, frame0012) is yielded, too.
    """
    joined = "".join(tokens_of(normalize(text)))
    if any(map(str.isdigit, joined)):
        yield from (
            (form,)
            for form in {joined, unpadded(joined)}
            if len(form) >= MIN_WORD and form not in own
        )


def written_ids(text: str) -> set[str]:
    """The grouped forms of an id whose digits are too few to be searched for without the groups.

    `88-77-66` stays grouped, and every sign between groups becomes a hyphen. An id with blanks has
    two forms: with the blanks, and with hyphens.
    """
    simple = normalize(text).translate(HYPHENS).strip()
    joined = "".join(tokens_of(simple))
    if not (joined.isdigit() and MIN_WORD <= len(joined) < MIN_DIGITS) or not GROUPED.fullmatch(
        simple
    ):
        return set()
    form = _SIGN.sub("-", simple)
    return {form, unpadded(form), form.replace(" ", "-"), unpadded(form).replace(" ", "-")}


def grouped_ids(text: str, page: bool) -> Iterator[str]:
    """Yield the possible ids among the groups of digits of a normalized text.

    Every run of groups is yielded in the form of `written_ids`. A run that only a blank, slash or
    underscore separates from further groups is also yielded without signs: `88-77-66` as 887766,
    `A-1234` as a1234. In a `page`, blanks do not join groups.
    """
    text = text if text.isascii() else text.translate(HYPHENS)
    for grouped in chain(GROUPED.findall(text), _LETTERED.findall(text)):
        places = [match.span() for match in _GROUP.finditer(grouped)]
        for first, (start, _) in enumerate(places):
            for _, end in places[first + 1 : first + MAX_GROUPS]:
                yield from _forms(grouped[start:end], _is_whole(grouped, start, end), page)


def _is_whole(grouped: str, start: int, end: int) -> bool:
    return (start == 0 or grouped[start - 1] in _EDGES) and (
        end == len(grouped) or grouped[end] in _EDGES
    )


def _forms(run: str, whole: bool, page: bool) -> Iterator[str]:
    forms = [] if _DECIMAL.fullmatch(run) else [(_SIGN_IN_PAGE if page else _SIGN).sub("-", run)]
    if whole and not (page and " " in run):
        forms.append("".join(_GROUP.findall(run)))
    for form in forms:
        yield form
        if "0" in form:
            yield unpadded(form)


def without_fractions(text: str) -> str:
    """A normalized text without the digits after decimal points.

    A point after more than six digits is not a decimal point.
    """
    return _FRACTION.sub(r"\1 ", text) if "." in text else text
