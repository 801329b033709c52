"""How the id of a patient or an exam is written in groups, and the numbers that only look like
one.
"""

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
# where an id may begin or end among other numbers: 88-77-66_0001.png, but not in 88-77-66-01
_EDGES = " /_"
_DECIMAL = re.compile(r"\d+\.\d+")
# Times and versions have more points, and in 20240131.4711223 a day stands before an id.
_FRACTION = re.compile(r"(?<![^\W_])(?<!\d\.)(\d{0,6})\.\d{4,}(?:e[-+]?\d+)?(?!\.?\w)")
_PREFIXED = re.compile(r"[^\W\d_]{1,3}[\W_]?\d{3,}")


def looks_like_id(text: str) -> bool:
    """Whether a text that an element for ids holds is one: of five digits, or of three behind one
    to three letters.

    The number of an exam may be 1, A or Twins2, too.
    """
    return (
        sum(map(str.isdigit, text)) >= MIN_ID_DIGITS
        or _PREFIXED.fullmatch(text.strip()) is not None
    )


def id_spellings(text: str, own: frozenset[str]) -> Iterator[Phrase]:
    """An id without what parts its groups, if that is long enough for a word and has a digit.

    It counts also where it is written like a counted word of ours: A1234, frame0012.
    """
    joined = "".join(tokens_of(normalize(text)))
    if any(map(str.isdigit, joined)):
        yield from (
            (form,)
            for form in {joined, unpadded(joined)}
            if len(form) >= MIN_WORD and form not in own
        )


def written_ids(text: str) -> set[str]:
    """The own form of an id in groups of digits that is too short to count joined: `88-77-66`,
    whatever the signs.

    Blanks stay if it is written with blanks; it counts with signs in their place, too.
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
    """What may be ids among the groups of digits of a `plain` text.

    The form of `written_ids` of every run of groups; and joined, as `88-77-66` is 887766 and
    `A-1234` a1234, those runs that no sign but a blank, slash or underscore parts from more; in a
    `page` only without blanks in them.
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
    """A `plain` text without the digits behind decimal points.

    At most 6 digits before the point are a number's.
    """
    return _FRACTION.sub(r"\1 ", text) if "." in text else text
