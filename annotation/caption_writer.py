"""Write one caption: render the template, shorten it to the text encoder, and check it."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import Any, NamedTuple

from sono.annotation.caption_facts import (
    DAYS_A_WEEK,
    TIER_OF_COUNT,
    Facts,
    caption_values,
    find_plane,
)
from sono.annotation.findings import PLACES, Places, spoken
from sono.annotation.lint import LintRules, lint
from sono.curation.core.column_values import LEVELS
from sono.templates.caption_values import Values
from sono.templates.loader import MAX_TEXT_CHARS, CaptionTemplates

MAX_CACHED = 1 << 18  # captions of different facts, of which 1.44 million frames have 163,000


@dataclass(frozen=True)
class Caption:
    """A rendered caption; with `findings` (see annotation.lint) it is refused."""

    text: str
    tier: str
    tokens: int
    fields: tuple[str, ...]
    findings: tuple[str, ...]
    places: tuple[str, ...]  # `file:line` of the template for each finding
    shortened: bool  # lists fewer structures than the facts
    # what a reviewer decided on it: the columns state, reviewer, reviewed_at and facts
    review: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def state(self) -> str | None:
        """What a reviewer decided on the caption."""
        return self.review.get("state")


class _Used(NamedTuple):
    """The values that a template depends on, and whether it needs these facts for them."""

    names: frozenset[str]
    days: bool
    weeks: bool
    structures: bool

    @classmethod
    def of(cls, names: frozenset[str]) -> "_Used":
        days = bool(names & {"ga", "days", "tier"})
        return cls(names, days, days or "weeks" in names, bool(names & {"structures", "tier"}))


@dataclass
class CaptionWriter:
    """Renders, shortens and checks captions; equal facts are rendered once."""

    templates: CaptionTemplates
    rules: LintRules
    places: Places = field(default_factory=lambda: PLACES)
    _cache: dict[Facts, Caption] = field(default_factory=dict)

    def write(self, facts: Facts) -> Caption:
        """The caption of `facts`."""
        facts = self._relevant(facts)
        if facts not in self._cache:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[facts] = self._write(facts)
        return self._cache[facts]

    def judge(self, text: str, facts: Facts) -> Caption:
        """The caption of a `text` that a reviewer wrote for `facts`."""
        values = self.values(facts)
        used = _fields_used(text, values, self.templates.printed(facts.level))
        findings = self._lint(text, facts, [name for name in facts.listed if name in text])
        tokens = self.rules.count_tokens(text)
        where = ("the text of a reviewer",) * len(findings)
        return Caption(text, _tier(used), tokens, used, findings, where, shortened=False)

    def values(self, facts: Facts) -> Values:
        """The values that the template gets."""
        return caption_values(facts, self.rules.planes, self.places)

    def _relevant(self, facts: Facts) -> Facts:
        """Drop facts that the template does not use, so that fewer captions are rendered."""
        used, age = self._used[facts.level], facts.ga_days
        if age is not None and not used.days:
            age = age // DAYS_A_WEEK * DAYS_A_WEEK if used.weeks else None
        return facts._replace(
            ga_days=age,
            structures=facts.structures if used.structures else (),
            biometry=tuple([size for size in facts.biometry if size[0] in used.names]),
        )

    @cached_property
    def _used(self) -> dict[str, "_Used"]:
        """What the template of each level depends on."""
        return {level: _Used.of(self.templates.names(level)) for level in LEVELS}

    def _write(self, facts: Facts) -> Caption:
        fitted, values, text = self._fit(facts)
        used = _fields_used(text, values, self.templates.printed(facts.level))
        findings = self._lint(text, facts, facts.listed)
        places = self._places(findings, facts, facts.listed, values) if findings else ()
        fewer = len(fitted) < len(facts.structures)
        tokens = self.rules.count_tokens(text)
        return Caption(text, _tier(used), tokens, used, findings, places, fewer)

    def _lint(self, text: str, facts: Facts, listed: Collection[str]) -> tuple[str, ...]:
        plane = find_plane(facts.plane, self.rules.planes)
        words = [spoken(finding) for finding in facts.findings]
        return tuple(lint(text, self.rules, plane, listed, words))

    def _places(
        self, findings: Iterable[str], facts: Facts, listed: Collection[str], values: Values
    ) -> tuple[str, ...]:
        """`file:line` of the piece of the template that brings each finding into the text."""
        found: dict[str, str] = {}
        place = ""
        for place, text in self.templates.written(facts.level, values):
            for code in self._lint(text, facts, [name for name in listed if name in text]):
                found.setdefault(code, place)
        return tuple(found.get(code, place) for code in findings)

    def _fit(self, facts: Facts) -> tuple[tuple[str, ...], Values, str]:
        """Render with as many structures as the text encoder can read.

        At least one structure is kept if there is one.
        """
        structures = _within(facts.structures, MAX_TEXT_CHARS // 2)
        while True:
            values = self.values(facts._replace(structures=structures))
            render = (
                self.templates.render_region if facts.structure else self.templates.render_global
            )
            text = render(values)
            if self.rules.count_tokens(text) <= self.rules.max_tokens or len(structures) <= 1:
                return structures, values, text
            structures = structures[:-1]


def _within(words: tuple[str, ...], chars: int) -> tuple[str, ...]:
    """The first of `words` that together have at most `chars` characters; one at least."""
    ends = accumulate(len(word) + 2 for word in words)
    return words[: max(1, sum(end <= chars for end in ends))]


def _fields_used(text: str, values: Values, printed: Iterable[str]) -> tuple[str, ...]:
    """The known values that the template may print and that occur in the text."""
    known = {name: values[name] for name in printed if values.get(name) is not None}
    left, used = text.casefold(), []
    # the longest first, each found once and taken out, so that "head" is not found in "fetal head"
    for name in sorted(known, key=lambda name: (-len(str(known[name])), name)):
        start, end = _place(known[name], left)
        if start >= 0:
            left = f"{left[:start]}\0{left[end:]}"
            used.append(name)
    return tuple(sorted(used))


def _place(value: object, text: str) -> tuple[int, int]:
    """Where a text in lower case has a value: start and end; -1 if it does not have it."""
    if not isinstance(value, float):
        word = str(value).casefold()
        start = text.find(word)
        return start, start + len(word)
    found = re.search(_spellings(value), text)
    return found.span() if found else (-1, -1)


@lru_cache(maxsize=4096)
def _spellings(value: float) -> str:
    """A pattern of the ways to write a size: it may be rounded, and is a complete number."""
    numbers = {str(value), *(f"{value:.{digits}f}" for digits in range(7))}
    return (
        rf"(?<![\d.])(?:{'|'.join(map(re.escape, sorted(numbers, key=len, reverse=True)))})(?!\d)"
    )


def _tier(used: Collection[str]) -> str:
    aged = not {"ga", "weeks"}.isdisjoint(used)
    shown = not {"structures", "structure"}.isdisjoint(used)
    return TIER_OF_COUNT[sum(("plane" in used, aged, shown))]
