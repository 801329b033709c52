"""Compare ids, names, sexes, birth dates and hospitals: can two be of one person or center?"""

import re
from collections.abc import Collection
from datetime import date
from functools import lru_cache

from sono.curation.clinical.name_variants import TITLES, normalize, tokens_of, words_of
from sono.curation.clinical.placeholders import (
    id_form,
    is_mothers_birth,
    is_placeholder,
    known_id,
)
from sono.curation.records.table import Record

# Words that many hospitals have in their names, so they do not identify a center.
_COMMON_WORDS = frozenset({
    "and", "center", "centre", "clinic", "clinica", "clinical", "clinique", "de", "del",
    "department", "der", "dept", "des", "di", "do", "du", "for", "frauenklinik", "fur", "health",
    "healthcare", "hopital", "hospital", "klinik", "klinikum", "krankenhaus", "la", "maternity",
    "medical", "of", "ospedale", "st", "the", "und", "universitaire", "universitat",
    "universitatsklinikum", "university", "women", "womens",
})  # fmt: skip
_DIGRAPHS = (("ae", "a"), ("oe", "o"), ("ue", "u"))  # Mueller is Müller on a plain keyboard
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_MAX_CODE = 3  # letters of the longest word of a code such as A, UKE or 1


def same_id(one: str | None, other: str | None) -> bool:
    """Whether both ids are known and equal."""
    return known_id(one) is not None and known_id(one) == known_id(other)


def ids_differ(one: str | None, other: str | None) -> bool:
    """Whether both ids are known and differ in more than leading zeros.

    Spreadsheets drop leading zeros.
    """
    first, second = known_id(one), known_id(other)
    return first is not None and second is not None and unpadded(first) != unpadded(second)


def unpadded(identity: str) -> str:
    """An id without leading zeros; ids that differ only in them do not contradict each other."""
    return identity.lstrip("0")


def bare_id(identity: str) -> str:
    """An id in its form for comparison, without signs, blanks and leading zeros."""
    return _LEADING_ZEROS.sub("", "".join(tokens_of(normalize(identity))))


def sexes_differ(one: str | None, other: str | None) -> bool:
    """Whether one of two sexes is F and the other M, ignoring case."""
    return {(one or "").upper(), (other or "").upper()} == {"F", "M"}


def names_differ(one: str | None, other: str | None) -> bool:
    """Whether two names cannot be of one person: each has a word that the other lacks.

    Order, case, accents, carets and titles are ignored. An initial matches any word that begins
    with it. A name with fewer words, such as a surname alone, matches a longer one that contains
    them. Another spelling of a word is another word.
    """
    if not one or not other or one == other:
        return False
    first, second = name_words(one), name_words(other)
    return bool(first and second) and not (_within(first, second) or _within(second, first))


def same_name(one: str | None, other: str | None) -> bool:
    """Whether both names are known and can be of one person."""
    return bool(one and other and name_words(one) and name_words(other)) and not names_differ(
        one, other
    )


@lru_cache(65536)
def name_words(name: str) -> tuple[str, ...]:
    """The words of a name, without digits; () for a code or a placeholder."""
    # the first group of a DICOM name; the ideographic and phonetic groups follow
    alphabetic = name.split("=", maxsplit=1)[0] or name
    words = [word for word in tokens_of(normalize(alphabetic)) if word not in TITLES]
    if all(any(map(str.isdigit, word)) for word in words):
        return ()
    words = [
        bare
        for word in words
        if (bare := "".join(letter for letter in word if not letter.isdigit()))
    ]
    if is_placeholder(" ".join(words)):
        return ()
    for digraph, letter in _DIGRAPHS:
        words = [word.replace(digraph, letter) for word in words]
    return tuple(words)


def _within(few: Collection[str], many: Collection[str]) -> bool:
    """Whether each word of `few` matches a different word of `many`."""
    left = list(many)
    for word in sorted(few, key=len, reverse=True):
        found = next((other for other in left if _same_word(word, other)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_word(one: str, other: str) -> bool:
    return one == other or (min(len(one), len(other)) == 1 and one[0] == other[0])


def birth_of(text: str | None, exam: date | None) -> date | None:
    """A DICOM date of birth (YYYYMMDD); None if it is invalid.

    It is also None if a patient born then cannot have been examined on the day `exam`.
    """
    try:
        day = date.fromisoformat((text or "").replace(".", ""))
    except ValueError:
        return None
    return day if is_mothers_birth(day, exam) else None


def centers_differ(own: str | None, other: str | None) -> bool:
    """Whether both centers are known and cannot be one, such as --center `own` and a row's."""
    return bool(own and other) and not same_center(own or "", other or "")


def same_center(one: str, other: str) -> bool:
    """Whether two names can be of one center: one of them contains all words of the other.

    Words that many hospitals have are ignored.
    """
    first, second = center_words(one), center_words(other)
    return id_form(one) == id_form(other) or (
        bool(first and second) and (first <= second or second <= first)
    )


def institution_differs(institution: str | None, center: str | None) -> bool:
    """Whether a header's InstitutionName cannot be a row's `center`.

    A code (A, UKE) cannot be compared with a full name: it neither contradicts nor confirms it.
    """
    if not centers_differ(institution, center):
        return False
    return _is_code(institution or "") == _is_code(center or "")


@lru_cache(4096)
def center_words(center: str) -> frozenset[str]:
    """The words that distinguish a center's name from others; all of its words if none does."""
    words = frozenset(tokens_of(normalize(center)))
    return words - _COMMON_WORDS or words


def _is_code(center: str) -> bool:
    return all(len(word) <= _MAX_CODE for word in tokens_of(normalize(center)))


def machines_differ(one: str, other: str) -> bool:
    """Whether two names cannot be of one machine: each has a word that the other lacks."""
    first, second = words_of(one), words_of(other)
    return not (first <= second or second <= first)


def same_person(one: Record, other: Record) -> bool:
    """Whether two rows with one patient id can be of one patient.

    They cannot if both have a center, issuer, birth date, name or sex and these differ.
    """
    pairs = ((one.birth, other.birth), (one.sex, other.sex))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return False
    return not (
        ids_differ(one.patient, other.patient)
        or ids_differ(one.issuer, other.issuer)
        or ids_differ(one.site, other.site)
        or names_differ(one.name, other.name)
    )
