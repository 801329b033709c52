"""What a caption states that its record and masks do not: ages, sides, sizes, findings, ...

The caption lint (`annotation.lint`) checks a text by itself; these checks compare it with facts.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from sono.annotation.caption_facts import DAYS_A_WEEK, Facts
from sono.annotation.findings import spoken
from sono.annotation.lint import whole_words
from sono.curation.clinical.values import PRESENTATION
from sono.curation.core.planes import Plane, PlaneTable

# What contradicts the record or the masks, and what only deserves a look.
CONTRADICTIONS = MappingProxyType(
    {
        "wrong_age": "a gestational age that is not the record's",
        "wrong_side": "a side that is not the record's",
        "wrong_presentation": "a presentation that is not the record's",
        "wrong_size": "a length in mm or cm that the record does not have",
        "wrong_finding": "a finding that the record does not have",
        "negation": "a negation: a record says what was found, not what was not",
        "wrong_region": "the caption of a mask that does not name its structure",
    }
)
REMARKS = MappingProxyType(
    {
        "unmasked_structure": "a structure without a mask, and not in the record",
        "unnamed_mask": "the frame has a mask of a structure that its list does not name",
        "unusual_age": "the plane is not usual at this gestational age",
    }
)

_AGE = re.compile(
    r"(?<![\d.])(\d+)(?:[ -]?(?:completed |full )?(?:weeks?|wks?|w)(?![a-z])"
    r"(?:,? ?(?:and )?(\d+) ?(?:days?|d)\b)?| ?\+ ?(\d+)\b)|\bweek (\d+)\b",
    re.IGNORECASE,
)
_SIDE = re.compile(r"\b(left|right|both|bilateral|bilaterally)\b", re.IGNORECASE)
_LENGTH = r"(?<![\d.])(\d+(?:\.(\d+))?)[\s-]?(mm|cm|(?:milli|centi)met(?:er|re)s?)\b"
_SIZE = re.compile(_LENGTH, re.IGNORECASE)
_MEASURES = {
    "bpd": "bpd_mm", "biparietal diameter": "bpd_mm", "hc": "hc_mm", "head circumference": "hc_mm",
    "ac": "ac_mm", "abdominal circumference": "ac_mm", "fl": "fl_mm", "femur length": "fl_mm",
    "crl": "crl_mm", "crown-rump length": "crl_mm", "nt": "nt_mm", "nuchal translucency": "nt_mm",
}  # fmt: skip
_NAMED_SIZE = re.compile(
    rf"\b({'|'.join(_MEASURES)})(?: (?:of|is|was|measures|measuring))?[ :=]+{_LENGTH}",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:no|not|without|absent|absence of|neither|nor|cannot|never|lacks?|lacking|excluded"
    r"|negative for|free of|ruled? out|r/o)\b|n't\b",
    re.IGNORECASE,
)
_PRESENTATION = re.compile(
    rf"\b({'|'.join(PRESENTATION)})[ -](?:presentation|lie|position)\b|\b(breech|cephalic)\b",
    re.IGNORECASE,
)
_SIDES = {
    "left": {"left"}, "right": {"right"},
    "both": {"left", "right", "both", "bilateral", "bilaterally"},
}  # fmt: skip


@dataclass(frozen=True)
class RecordChecks:
    """The checks with the words of a study: its planes and the `findings` of its records."""

    planes: PlaneTable
    findings: frozenset[str]

    def contradictions(self, text: str, facts: Facts) -> list[str]:
        """The codes of CONTRADICTIONS that apply to `text`, in their order.

        `facts` are those of the record; `facts.structure` is that of the mask.
        """
        plane = self.planes.by_id.get(facts.plane or "")
        text = " ".join("".join(one for one in text if one.isprintable()).split())
        # "absent nasal bone" negates nothing, and "left ventricle" states no side
        without_findings = self._finding.sub(" ", self._own_finding(facts).sub(" ", text))
        rest = self._anatomy.sub(" ", without_findings)
        checks = {
            "wrong_age": not _states_age(text, facts.ga_days),
            "wrong_side": not set(map(str.lower, _SIDE.findall(rest)))
            <= _SIDES.get(facts.laterality or "", set()),
            "wrong_presentation": not {
                (found[1] or found[2]).lower() for found in _PRESENTATION.finditer(rest)
            }
            <= {facts.presentation},
            "wrong_size": not all(
                _is_size(number, digits, unit, facts.biometry)
                for number, digits, unit in _SIZE.findall(text)
            )
            or not all(
                _is_size(number, digits, unit, _sizes_of(name, facts))
                for name, number, digits, unit in _NAMED_SIZE.findall(text)
            ),
            "wrong_finding": self._foreign_finding(text, facts, plane),
            "negation": _NEGATION.search(rest),
            "wrong_region": facts.structure and facts.structure.casefold() not in text.casefold(),
        }
        return [code for code, hit in checks.items() if hit]

    def remarks(self, text: str, facts: Facts, masked: Collection[str]) -> list[str]:
        """The codes of REMARKS that apply to `text`; `masked` structures have a usable mask."""
        plane = self.planes.by_id.get(facts.plane or "")
        found = []
        if not facts.structure:
            named = self.named_structures(text, facts, plane)
            if plane and named - set(masked) - set(facts.structures):
                found.append("unmasked_structure")
            if named and any(one not in text.lower() for one in masked):
                found.append("unnamed_mask")
        if plane and plane.weeks and facts.ga_days is not None:
            first, last = plane.weeks
            if not first <= facts.ga_days // DAYS_A_WEEK <= last:
                found.append("unusual_age")
        return found

    def named_structures(self, text: str, facts: Facts, plane: Plane | None) -> set[str]:
        """The structures that a text names, apart from those in the name of its plane."""
        rest = self._finding.sub(" ", self._own_finding(facts).sub(" ", text))
        found = {one.lower() for one in self._structure.findall(rest)}
        return found - (set(self._structure.findall(plane.name)) if plane else set())

    def _foreign_finding(self, text: str, facts: Facts, plane: Plane | None) -> bool:
        rest = self._own_finding(facts).sub(" ", text)
        names = plane.name if plane else ""
        return any(one.lower() not in names for one in self._finding.findall(rest))

    def _own_finding(self, facts: Facts) -> re.Pattern[str]:
        return whole_words(map(spoken, facts.findings))

    @cached_property
    def _finding(self) -> re.Pattern[str]:
        return whole_words(map(spoken, self.findings))

    @cached_property
    def _structure(self) -> re.Pattern[str]:
        return whole_words(self.planes.structures)

    @cached_property
    def _anatomy(self) -> re.Pattern[str]:
        return whole_words([*self.planes.structures, *(plane.name for plane in self.planes.planes)])


def _states_age(text: str, ga_days: int | None) -> bool:
    """Whether all ages in a text are that of the record; a text without one states none."""
    for weeks, days, plus, week in _AGE.findall(text):
        stated = days or plus
        if ga_days is None or int(weeks or week) != ga_days // DAYS_A_WEEK:
            return False
        if stated and int(stated) != ga_days % DAYS_A_WEEK:
            return False
    return True


def _sizes_of(name: str, facts: Facts) -> list[tuple[str, float]]:
    """The recorded sizes of a measure, by its name or abbreviation."""
    return [size for size in facts.biometry if size[0] == _MEASURES[name.lower()]]


def _is_size(number: str, digits: str, unit: str, sizes: Collection[tuple[str, float]]) -> bool:
    """Whether a length is one of `sizes`, rounded to the digits that are written."""
    scale = 10.0 if unit.lower().startswith("c") else 1.0
    half = scale * 0.5 * 10.0 ** -len(digits)
    return any(abs(float(number) * scale - size) <= half + 1e-6 for _, size in sizes)
