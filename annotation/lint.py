"""Caption lint: what a caption must not contain, each as a code."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from sono.curation.core.planes import REGIONS, Plane, PlaneTable

# The codes that `lint` returns and what they mean.
FINDINGS = MappingProxyType(
    {
        "empty": "the text is empty",
        "residue": "the text contains a piece of the template or a null value",
        "blanks": "two spaces in a row, or a space at an end or before a full stop or comma",
        "control_character": "a control character or line break",
        "ga_grammar": "a gestational age that is not English, such as '1 weeks' or '22-weeks'",
        "ga_range": "a gestational age outside 4 to 45 weeks",
        "article": "'a' before a vowel, or 'an' before a consonant",
        "doubled_word": "the same word twice in a row",
        "punctuation": "two signs in a row, an empty bracket, or a sign at the wrong end",
        "identifier": "something like an id, a date or a file name",
        "banned": "a center, a machine or a word of the banned list",
        "wrong_plane": "the text names a plane that the frame does not show",
        "wrong_structure": (
            "a structure of another plane or of none; correct the label, mask or planes file"
        ),
        "too_long": "more tokens than the text encoder reads",
    }
)

_ORDER = {code: place for place, code in enumerate(FINDINGS)}
MAX_CHECKED = 1 << 16
MIN_BANNED_CHARS = 3  # a center called "A" would ban the article
_RESIDUE = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}|\b(?:none|nan|null|undefined)\b", re.IGNORECASE)
_BLANKS = re.compile(r"\s{2,}|^\s|\s$|\s[.,;:]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffd]")
_GA_GRAMMAR = re.compile(
    r"(?<!\+)(?<!\+ )\b1 (?:weeks|days)\b|\b(?!1 )\d+ (?:week|day)\b|\d+-(?:weeks|days)\b"
    r"|\b0 days?\b|\b(?:[7-9]|\d{2,}) days\b|\ba (?:8|11|18)-week\b|\ban "
    r"(?!8-|11-|18-)\d+-week\b|\d+\.\d+[ -]weeks?\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(
    r"\b[Aa] (?:(?!one\b|once\b|eu)[aeio]|u(?!ni|te|ri|su|ro))\w|\b[Aa]n [bcdfgj-np-tv-z]\w"
)
_DOUBLED = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
_PUNCTUATION = re.compile(r"[.,;:]{2,}|\(\s*\)|^[.,;:]|[,;:]$")
_WEEKS = re.compile(r"\b(\d+)(?: ?\+ ?\d)?[ -]weeks?\b", re.IGNORECASE)
# an age that is correct English, between blanks and signs
_AGE = re.compile(
    r"(?<![^\s(])([1-9]\d?) weeks(?: and (1 day|[2-6] days)|(?! and \d))(?![^\s,;.)])(?!\.\S)"
)
_SAME_AGES = {"": "22 weeks", "1 day": "22 weeks and 1 day"}  # by the days; others have 3
_IDENTIFIER = re.compile(
    r"\d{5,}|\b\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"
    r"|\.(?:dcm|png|jpe?g|tiff?|bmp)\b|(?:[/\\][\w.-]+){2}|@|\b1\.2\.\d+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class LintRules:
    """The rules that `lint` checks against.

    `count_tokens` counts the tokens of a text including start and end.
    """

    count_tokens: Callable[[str], int]
    planes: PlaneTable
    banned: frozenset[str] = frozenset()
    max_tokens: int = 77
    # what was found in the texts checked so far
    checked: dict[tuple[object, ...], tuple[str, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @cached_property
    def banned_pattern(self) -> re.Pattern[str] | None:
        """The banned words, matched as complete words.

        Words of the plane table's own vocabulary cannot be banned.
        """
        words = {" ".join(word.casefold().split()) for word in self.banned}
        usable = sorted(
            word for word in words if len(word) >= MIN_BANNED_CHARS and word not in self._own_words
        )
        return whole_words(usable) if usable else None

    @cached_property
    def term_pattern(self) -> re.Pattern[str]:
        """Structures and plane names."""
        return whole_words(self.plane_names | set(self.planes.structures))

    @cached_property
    def plane_names(self) -> frozenset[str]:
        return frozenset(plane.name for plane in self.planes.planes)

    @cached_property
    def folded_names(self) -> frozenset[str]:
        return frozenset(_folded(self.plane_names))

    @cached_property
    def terms_have_weeks(self) -> bool:
        """Whether a term of the plane table contains an age, so that ages may not be exchanged."""
        return any("week" in term for term in {*self.folded_names, *self.structures})

    @cached_property
    def structures(self) -> frozenset[str]:
        """The structures of all planes, folded."""
        return frozenset(_folded(self.planes.structures))

    @cached_property
    def _own_words(self) -> frozenset[str]:
        phrases = (f"{p.name} {p.region} {' '.join(p.structures)}" for p in self.planes.planes)
        words = {word for phrase in phrases for word in phrase.casefold().split()}
        return frozenset({*words, "other", "ultrasound", "fetal", "image", "plane", "view"})


def lint(
    text: str,
    rules: LintRules,
    plane: Plane | None = None,
    structures: Collection[str] = (),
    findings: Collection[str] = (),
) -> list[str]:
    """The codes (see FINDINGS) of the problems in `text`, in a fixed order.

    `plane` is what the frame shows (None: unknown, or none of the planes), `structures` those that
    the caption lists. The record's own `findings` may name any structure, such as "short femur"
    with a head.
    """
    if not text.strip():
        return ["empty"]
    found = list(_checked(_same_age(text, rules, findings), rules, plane, structures, findings))
    if rules.banned_pattern and rules.banned_pattern.search(text):
        found.append("banned")
    found += ["too_long"] * (rules.count_tokens(text) > rules.max_tokens)
    return sorted(found, key=_ORDER.__getitem__)


def _same_age(text: str, rules: LintRules, findings: Collection[str]) -> str:
    """`text` with another age if it states one that is correct English and in range.

    So texts that differ in such an age alone are checked once. It stays where a term that is
    searched for could contain it.
    """
    ages = [] if rules.terms_have_weeks else _AGE.findall(text)
    if len(ages) != 1 or not 4 <= int(ages[0][0]) <= 45 or any("week" in one for one in findings):
        return text
    return _AGE.sub(_SAME_AGES.get(ages[0][1], "22 weeks and 3 days"), text)


def _checked(
    text: str,
    rules: LintRules,
    plane: Plane | None,
    structures: Collection[str],
    findings: Collection[str],
) -> tuple[str, ...]:
    """The findings of `lint` that depend neither on banned words nor on the length."""
    key = (text, plane and plane.id, tuple(structures), tuple(findings))
    if key not in rules.checked:
        if len(rules.checked) >= MAX_CHECKED:
            rules.checked.clear()
        rules.checked[key] = tuple(_check(text, rules, plane, structures, findings))
    return rules.checked[key]


def _check(
    text: str,
    rules: LintRules,
    plane: Plane | None,
    structures: Collection[str],
    findings: Collection[str],
) -> list[str]:
    checks = {
        "residue": _RESIDUE.search(text),
        "blanks": _BLANKS.search(text),
        "control_character": _CONTROL.search(text),
        "ga_grammar": _GA_GRAMMAR.search(text),
        "ga_range": any(not 4 <= int(weeks) <= 45 for weeks in _WEEKS.findall(text)),
        "article": _ARTICLE.search(text),
        "doubled_word": _DOUBLED.search(text),
        "punctuation": _PUNCTUATION.search(text),
        "identifier": _IDENTIFIER.search(text),
    }
    found = [code for code, hit in checks.items() if hit]
    return found + _disagreements(_without(text, findings), rules, plane, structures)


def _disagreements(
    text: str, rules: LintRules, plane: Plane | None, structures: Collection[str]
) -> list[str]:
    """`wrong_plane` and `wrong_structure`, from the terms in the text and the listed structures."""
    listed, known = _folded(structures), rules.structures
    # a plane of the planes file may list no structures: then any may be in it
    own = _folded((plane.name, *(plane.structures or known))) if plane else listed & known
    terms = _folded(rules.term_pattern.findall(text)) - own - REGIONS.keys()
    # "femur" is a plane and a structure: if the plane is known, it is read as a structure
    names = rules.folded_names - (known if plane else set())
    foreign = listed - own if plane is None else (terms - names) | (listed - own)
    return ["wrong_plane"] * bool(terms & names) + ["wrong_structure"] * bool(foreign)


def _without(text: str, phrases: Collection[str]) -> str:
    return whole_words(phrases).sub("", text)


def _folded(terms: Iterable[str]) -> set[str]:
    return {term.casefold() for term in terms}


def whole_words(terms: Iterable[str]) -> re.Pattern[str]:
    """A pattern of complete terms, the longest first ('descending aorta' before 'aorta').

    A part of a hyphenated word is not complete. The pattern of no terms matches nothing.
    """
    listed = sorted(set(terms), key=lambda term: (-len(term), term))
    if not listed:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, listed))})(?![\w-])", re.IGNORECASE)
