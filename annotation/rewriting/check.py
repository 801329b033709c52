"""Check that a rewritten caption states what the caption states: nothing added, nothing lost."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from sono.annotation.lint import whole_words
from sono.curation.clinical.name_variants import words_of
from sono.curation.core.planes import REGIONS, PlaneTable

# The codes of `differences`, and what they mean.
DIFFERENCES = MappingProxyType(
    {
        "signs": "signs that no caption has, such as question marks or letters of other scripts",
        "length": "empty, or far longer than the caption",
        "age": "another gestational age, none, or one more",
        "plane": "another plane or region, none, or one more",
        "structure": "a structure is missing, or one more is named",
        "finding": "a finding is missing, or it moved between the plane and the study",
        "laterality": "left, right or both differ",
        "negation": "a denial was added or removed",
        "number": "a number differs, or is in another place",
        "unit": "a number has another unit",
        "lost": "a word of the caption that states something is missing",
        "added": "a word that the caption does not have and that is not plain wording",
    }
)
MAX_GROWTH, MAX_MORE = 2, 80  # a rewrite has at most this many times the letters, and more letters
# Words that state nothing about the fetus: articles, prepositions, and what any such image is.
PLAIN = words_of(
    """
    a an the this that these it its is are was of in on at with and as by from for to into which
    where here we see seen can be shown show shows showing depict depicts depicting depicted
    display displays displaying displayed demonstrate demonstrates demonstrating demonstrated
    visible visualize visualizes visualizing visualized view views viewed capture captures
    captured capturing include includes including included contain contains containing present
    presents presenting picture pictured image images imaged imaging frame frames scan scans
    scanned sonogram sonograms sonographic ultrasound ultrasonic ultrasonography us obstetric
    prenatal antenatal fetal fetus foetal foetus baby unborn plane planes section sections
    standard through acquired taken obtained recorded record records exam examination study
    structure structures anatomy anatomical identified identify identifies identifiable outlined
    region area marked highlighted highlight highlights mask masked labeled labelled delineated
    corresponds represents pregnancy gestation gestational age aged old week weeks day days
    completed presentation lie lies lying position positioned side sides finding findings noted
    note notes reported report reports listed lists there has have along together also
    appear appears appearing appeared reveal reveals revealing revealed illustrate illustrates
    illustrating illustrated feature features featuring featured observe observes observed found
    focus focuses focusing focused provide provides provided provided capture being been within
    during while when what who their such namely following given made using via under named called
    term terms label caption imagery sonography sonographically ultrasonographic intrauterine utero
    uterus womb infant sided aspect level located length measure measures measuring measured
    """
)
_NEGATIONS = words_of("no not non without absent absence neither nor never none lacks lack")
_SIDES = {"left": "left", "right": "right", "both": "both", "bilateral": "both",
          "bilaterally": "both"}  # fmt: skip
# fmt: off
_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
# fmt: on
_TENS = {"twenty": 20, "thirty": 30, "forty": 40}
_WORDS = {word: number for number, word in enumerate(_ONES)} | _TENS
_NUMBER_WORD = re.compile(
    rf"\b(?:({'|'.join(_TENS)})(?: ({'|'.join(_ONES[1:10])}))?|({'|'.join(_ONES)}))\b"
)
_AS_WELL = re.compile(r"\bas well(?: as)?\b")
_SIZES = re.compile(
    r"\b(?:bpd|ofd|hc|ac|fl|crl|efw|nt|biparietal|occipitofrontal|head circumference|"
    r"abdominal circumference|(?:femur|crown rump) length)\b"
)
_SHORT = {"biparietal": "bpd", "occipitofrontal": "ofd", "head circumference": "hc",
          "abdominal circumference": "ac", "femur length": "fl",
          "crown rump length": "crl"}  # fmt: skip
_OTHER_SIGN = re.compile(r"[^a-z0-9 ,.;:()'+/-]")
_WEEKS = r"(?:(?:completed |full |gestational )?weeks?|w)"
_DAYS = r"(?:,| and|,? plus)? ?(\d) ?(?:days?|d)\b"
_AGE = re.compile(rf"\b(\d+) ?{_WEEKS}(?:{_DAYS}| ?\+ ?(\d)\b|\b)|\b(\d+) ?\+ ?(\d)(?: weeks?)?\b")
_MEASURE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) ?(mm|cm|m|inch|inches|in|%|days?|weeks?)?\b")


@dataclass(frozen=True)
class _Stated:
    """What a text states."""

    ages: frozenset[tuple[int, int]]  # weeks, days
    planes: frozenset[str]
    structures: frozenset[str]
    findings: frozenset[tuple[str, bool]]  # and whether it is of the study
    sides: frozenset[tuple[str, str]]  # with the structure or plane next to each
    negations: tuple[str, ...]  # what each of them denies
    sizes: tuple[str, ...]  # the names of measures, in the order of their numbers
    numbers: tuple[str, ...]  # in order
    units: tuple[str, ...]
    words: frozenset[str]


@dataclass(frozen=True)
class RewriteCheck:
    """Compares rewrites with captions by the terms of a plane table."""

    planes: PlaneTable

    def differences(self, caption: str, rewrite: str, findings: Collection[str] = ()) -> list[str]:
        """The codes (see DIFFERENCES) of what a rewrite states in another way than its caption.

        `findings` are those of the record, in words.
        """
        if _OTHER_SIGN.search(rewrite.lower()):
            return ["signs"]
        if not 0 < len(rewrite.strip()) <= MAX_GROWTH * len(caption) + MAX_MORE:
            return ["length"]
        own, other = (self._stated(text, findings) for text in (caption, rewrite))
        unlike = {
            "age": own.ages != other.ages,
            "plane": own.planes != other.planes,
            "structure": own.structures != other.structures,
            "finding": own.findings != other.findings,
            "laterality": own.sides != other.sides,
            "negation": own.negations != other.negations,
            "number": (own.numbers, own.sizes) != (other.numbers, other.sizes),
            "unit": own.numbers == other.numbers and own.units != other.units,
            "lost": bool(own.words - other.words - PLAIN),
            "added": bool(other.words - own.words - PLAIN),
        }
        return [code for code, differs in unlike.items() if differs]

    def _stated(self, text: str, findings: Collection[str]) -> _Stated:
        left = whole = _AS_WELL.sub("and", _plain(text))
        named, left = _take(left, whole_words(map(_plain, findings)))
        of_study = {name: "study" in _clause(left, place) for name, place in named.items()}
        names, left = _take(left, self._plane_names)
        terms, left = _take(left, self._terms)
        sides, negations = _bound(whole, left)
        sizes = tuple(_SHORT.get(name, name) for name in _SIZES.findall(left))
        left = _NUMBER_WORD.sub(_digits, left)
        ages = [match for match in _AGE.finditer(left) if match[0]]
        left = _AGE.sub(" ", left)
        numbers = _MEASURE.findall(left)
        words = re.findall(r"[a-z0-9]+(?:'[a-z]+)?", _MEASURE.sub(" ", left))
        return _Stated(
            frozenset(_age(match) for match in ages),
            frozenset(_bare(name) for name in names) | (terms.keys() & self._names),
            frozenset(terms) - self._names,
            frozenset(of_study.items()),
            sides,
            negations,
            sizes,
            tuple(number for number, _ in numbers),
            tuple(unit for _, unit in numbers),
            frozenset(words) - _SIDES.keys() - _NEGATIONS,
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        """Planes and regions; a word that is also a structure counts as a structure."""
        names = {_plain(plane.name) for plane in self.planes.planes} | REGIONS.keys()
        return frozenset(names - {_plain(one) for one in self.planes.structures})

    @cached_property
    def _plane_names(self) -> re.Pattern[str]:
        """A name that is also a structure, where it is written as that of the plane."""
        both = {_plain(plane.name) for plane in self.planes.planes} - self._names
        either = "|".join(map(re.escape, sorted(both, key=lambda name: (-len(name), name))))
        return re.compile(
            rf"\b(?:{either})(?= (?:standard )?(?:plane|view|section)\b)"
            rf"|\b(?:plane|view|section) of the (?:{either})\b"
            if either
            else r"(?!)"
        )

    @cached_property
    def _terms(self) -> re.Pattern[str]:
        words = whole_words([*self._names, *map(_plain, self.planes.structures)])
        # the femur length is a size, not a femur that is shown
        return re.compile(rf"(?:{words.pattern})(?! (?:length|circumference|diameter)\b)")


def _bound(whole: str, left: str) -> tuple[frozenset[tuple[str, str]], tuple[str, ...]]:
    """Each side with the nearest term, and what the negations deny: the next term or finding.

    In `left` the terms of the text `whole` are underscores.
    """
    words = [
        (whole[match.start() : match.end()], "_" in match[0])
        for match in re.finditer(r"_+|[a-z]+", left)
    ]
    terms = [place for place, (_, is_term) in enumerate(words) if is_term]
    denied = [place for place, (word, is_term) in enumerate(words)
              if is_term or word.startswith("finding")]  # fmt: skip
    sides, negations = set(), []
    for place, (word, _) in enumerate(words):
        if word in _SIDES:
            # "the plane on the left side" against "the left femur"
            of_before = words[place + 1 : place + 2] in ([("side", False)], [("sides", False)])
            before = [term for term in terms if term < place]
            near = (
                before[-1]
                if of_before and before
                else min(terms, key=lambda term: (abs(term - place), -term), default=None)
            )
            sides.add((_SIDES[word], "" if near is None else _bare(words[near][0])))
        if word in _NEGATIONS:
            behind = [one for one in denied if one > place] or denied[::-1] or [place]
            target = words[behind[0]][0]
            negations.append("finding" if target.startswith("finding") else _bare(target))
    return frozenset(sides), tuple(sorted(negations))


def _plain(text: str) -> str:
    """A text in lower case with blanks for hyphens and without doubled blanks."""
    return " ".join(re.sub(r"(?<=\w)-(?=\w)", " ", text.lower()).split())


def _clause(text: str, place: int) -> list[str]:
    """The words of the part of a text at `place`, between semicolons and full stops."""
    before, behind = re.split("[.;] ", text[:place])[-1], re.split("[.;] ", text[place:])[0]
    return re.findall("[a-z]+", f"{before} {behind}")


def _bare(name: str) -> str:
    return re.sub(r"^(?:plane|view|section) of the ", "", name)


def _take(text: str, pattern: re.Pattern[str]) -> tuple[dict[str, int], str]:
    """The terms in a text with the place of each, and the text without them."""
    found: dict[str, int] = {}
    for match in pattern.finditer(text):
        found.setdefault(match[0], match.start())
    return found, pattern.sub(lambda match: "_" * len(match[0]), text)


def _digits(match: re.Match[str]) -> str:
    ten, one, alone = match.groups()
    return str(_WORDS[alone] if alone else _WORDS[ten] + _WORDS.get(one or "zero", 0))


def _age(match: re.Match[str]) -> tuple[int, int]:
    weeks, days, plus, short, rest = match.groups()
    return int(weeks or short), int(days or plus or rest or 0)
