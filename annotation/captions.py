"""Captions from records and masks: one for every accepted frame, one for every mask on it."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import accumulate

import pandas as pd
from pydantic import Field

from sono.annotation.caption_facts import (
    DAYS_A_WEEK,
    TIER_OF_COUNT,
    Facts,
    caption_values,
    facts_of,
    find_plane,
)
from sono.annotation.findings import PLACES, Places, spoken, with_own_places
from sono.annotation.lint import FINDINGS, LintRules, clip_token_counter, lint
from sono.curation.core.column_values import LEVELS, TIERS
from sono.curation.core.config import Config
from sono.curation.core.console import progress
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.templates.caption_values import Values
from sono.templates.loader import MAX_TEXT_CHARS, CaptionTemplates, load_templates

PROGRESS_STEP = 2_000  # frames; to draw the bar takes longer than a caption

MAX_NAMES = 5  # refused captions that a message names

_Place = tuple[str, str | None]  # image id, and mask id of a region caption


class CaptionConfig(Config):
    """`[captions]` of `sono.toml`: template set, token limit, banned words, places of findings."""

    template: str = "standard"
    max_tokens: int = Field(77, ge=1)
    banned: tuple[str, ...] = ()
    finding_places: dict[str, tuple[str, ...]] = Field(
        {}
    )  # structures, planes or regions that show a study's own findings


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


@dataclass(frozen=True)
class RefusedCaption:
    """The frame of a refused caption, its mask if it is of a region, and the codes of findings."""

    image_id: str
    mask_id: str | None
    findings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The ids in words."""
        return f"frame {self.image_id}" + (f" mask {self.mask_id}" if self.mask_id else "")


@dataclass(frozen=True)
class CaptionSummary:
    """What was written and what was refused: `counts` by level and tier, `findings` by code."""

    template: str
    counts: dict[str, dict[str, int]]
    findings: dict[str, int]
    finding_means: dict[str, str]
    refused: int
    examples: tuple[str, ...]  # for each finding: where, what the rule is, frames, a refused text
    shortened: int  # captions that list fewer structures than there are, to fit the text encoder
    refused_captions: tuple[RefusedCaption, ...]

    def table(self) -> dict[str, object]:
        """The counts for the terminal; the examples name the meanings and the first captions."""
        listed = "--json lists the frames and masks of all" if self.refused > MAX_NAMES else ()
        levels = {f"{level}_captions": tiers for level, tiers in self.counts.items()}
        rest = {name: value for name, value in vars(self).items() if name != "counts"}
        return levels | rest | {"finding_means": {}, "refused_captions": listed}

    def refuse_findings(self) -> None:
        """FindingsError (exit 3) where a caption was refused."""
        if self.refused:
            raise IssuesError(f"{self.refused} captions were refused; see the findings above")


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
            self._cache[facts] = self._write(facts)
        return self._cache[facts]

    def _relevant(self, facts: Facts) -> Facts:
        """Drop facts that the template does not use, so that fewer captions are rendered."""
        names = self.templates.names(facts.level)
        if not names & {"ga", "days", "weeks", "tier"}:
            facts = facts._replace(ga_days=None)
        elif not names & {"ga", "days", "tier"} and facts.ga_days is not None:
            facts = facts._replace(ga_days=facts.ga_days // DAYS_A_WEEK * DAYS_A_WEEK)
        if not names & {"structures", "tier"}:
            facts = facts._replace(structures=())
        return facts._replace(biometry=tuple(size for size in facts.biometry if size[0] in names))

    def _write(self, facts: Facts) -> Caption:
        fitted, values, text = self._fit(facts)
        used = _fields_used(text, values, self.templates.printed(facts.level))
        listed = (facts.structure,) if facts.structure else facts.structures
        findings = self._lint(text, facts, listed)
        places = self._places(findings, facts, listed, values) if findings else ()
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
            values = caption_values(
                facts._replace(structures=structures), self.rules.planes, self.places
            )
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
        found = re.search(_spellings(known[name]), left)
        if found:
            left = f"{left[: found.start()]}\0{left[found.end() :]}"
            used.append(name)
    return tuple(sorted(used))


def _spellings(value: object) -> str:
    """A pattern of the ways to write a value: a size may be rounded, and is a complete number."""
    if not isinstance(value, float):
        return re.escape(str(value).casefold())
    numbers = {str(value), *(f"{value:.{digits}f}" for digits in range(7))}
    return (
        rf"(?<![\d.])(?:{'|'.join(map(re.escape, sorted(numbers, key=len, reverse=True)))})(?!\d)"
    )


def _tier(used: Collection[str]) -> str:
    aged = not {"ga", "weeks"}.isdisjoint(used)
    shown = not {"structures", "structure"}.isdisjoint(used)
    return TIER_OF_COUNT[sum(("plane" in used, aged, shown))]


def build_captions(workspace: Workspace, template: str | None = None) -> CaptionSummary:
    """Write captions.parquet with a caption per accepted frame and per usable mask.

    A caption with a lint finding is refused: it is counted in the summary and not written. Raises
    PrivacyError if a template or a record brings private text into the workspace.
    """
    config = workspace.settings("captions", CaptionConfig)
    templates = load_templates(template or config.template)
    images, masks = workspace.accepted_images(), workspace.masks()
    planes = workspace.planes()
    banned = {*config.banned, *images["center"].dropna(), *images["machine"].dropna()}
    rules = LintRules(clip_token_counter(), planes, frozenset(banned), config.max_tokens)
    writer = CaptionWriter(templates, rules, with_own_places(config.finding_places, planes))
    places, captions = _captions_of(writer, images.drop_duplicates("image_id"), masks)
    summary = _summary(places, captions, writer)
    _refuse_to_lose(workspace, places, summary)
    with workspace.lock():
        workspace.write(CAPTIONS, _table(places, captions, templates.id))
    check_privacy(workspace)
    return summary


def _refuse_to_lose(workspace: Workspace, places: list[_Place], summary: CaptionSummary) -> None:
    """Raise SonoError if all global captions, or all region captions, would be refused."""
    earlier = {"global", *workspace.read(CAPTIONS, ["level"])["level"]}
    for level in earlier & {_level(place) for place in places}:
        if not sum(summary.counts[level].values()):
            codes = ", ".join(f"{code} {count}" for code, count in summary.findings.items())
            kept = (
                "captions.parquet stays as it is"
                if workspace.path(CAPTIONS).exists()
                else "nothing was written"
            )
            raise SonoError(
                f"template set '{summary.template}': every {level} caption was refused ({codes}), "
                f"so {kept}; correct the template or the records; {summary.examples[0]}"
            )


def _captions_of(
    writer: CaptionWriter, images: pd.DataFrame, masks: pd.DataFrame
) -> tuple[list[_Place], list[Caption]]:
    """A caption for every frame and every usable mask, refused ones included, with its place."""
    masked = _masks_by_image(masks[masks["state"] != "rejected"])
    places: list[_Place] = []
    captions: list[Caption] = []
    with progress("captions", len(images)) as advance:
        for number, (image_id, recorded) in enumerate(facts_of(images), start=1):
            own = masked.get(image_id, [])
            facts = recorded._replace(structures=_listed(recorded, own, writer.rules.planes))
            places.append((image_id, None))
            captions.append(writer.write(facts))
            for mask_id, structure in own:
                places.append((image_id, mask_id))
                captions.append(writer.write(facts._replace(structure=structure)))
            if number % PROGRESS_STEP == 0 or number == len(images):
                advance((number - 1) % PROGRESS_STEP + 1)
    return places, captions


def _masks_by_image(masks: pd.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Mask ids and structures of each frame."""
    found: dict[str, list[tuple[str, str]]] = {}
    columns = (masks[name].tolist() for name in ("image_id", "mask_id", "structure"))
    for image_id, mask_id, structure in zip(*columns, strict=True):
        found.setdefault(image_id, []).append((mask_id, structure))
    return found


def _listed(facts: Facts, own: list[tuple[str, str]], planes: PlaneTable) -> tuple[str, ...]:
    """The masked structures, else the recorded ones, in the order of the plane table."""
    found = {structure for _, structure in own} or set(facts.structures)
    plane = find_plane(facts.plane, planes)
    order = {structure: rank for rank, structure in enumerate(plane.structures)} if plane else {}
    return tuple(sorted(found, key=lambda structure: (order.get(structure, len(order)), structure)))


def _table(places: list[_Place], captions: list[Caption], template_id: str) -> pd.DataFrame:
    """The captions table of those without findings."""
    kept = [
        (place, caption)
        for place, caption in zip(places, captions, strict=True)
        if not caption.findings
    ]
    return pd.DataFrame(
        {
            "image_id": [image_id for (image_id, _), _ in kept],
            "mask_id": pd.array([mask_id for (_, mask_id), _ in kept], dtype="str"),
            "level": [_level(place) for place, _ in kept],
            "text": [caption.text for _, caption in kept],
            "template": [template_id] * len(kept),
            "tier": [caption.tier for _, caption in kept],
            "tokens": pd.array([caption.tokens for _, caption in kept], dtype="Int32"),
            "fields": pd.Series([list(caption.fields) for _, caption in kept], dtype=object),
        }
    )


def _summary(
    places: list[_Place], captions: list[Caption], writer: CaptionWriter
) -> CaptionSummary:
    counts = {level: dict.fromkeys(TIERS, 0) for level in LEVELS}
    findings: Counter[str] = Counter()
    examples: dict[str, str] = {}  # the first of each finding
    refused: list[RefusedCaption] = []
    for place, caption in zip(places, captions, strict=True):
        findings.update(caption.findings)
        for code, line in zip(caption.findings, caption.places, strict=True):
            examples.setdefault(code, f"{line}: {code}, {FINDINGS[code]}: '{caption.text}'")
        if caption.findings:
            refused.append(RefusedCaption(*place, caption.findings))
        counts[_level(place)][caption.tier] += not caption.findings
    return CaptionSummary(
        writer.templates.id,
        counts,
        dict(sorted(findings.items())),
        {code: FINDINGS[code] for code in sorted(findings)},
        len(refused),
        tuple(f"{text} of {_names(code, refused)}" for code, text in examples.items()),
        sum(caption.shortened for caption in captions),
        tuple(refused),
    )


def _names(code: str, refused: list[RefusedCaption]) -> str:
    """The first captions with a finding, by frame and mask."""
    names = [caption.name for caption in refused if code in caption.findings]
    more = f" and {len(names) - MAX_NAMES} more" * (len(names) > MAX_NAMES)
    return f"{', '.join(names[:MAX_NAMES])}{more}"


def _level(place: _Place) -> str:
    return "global" if place[1] is None else "region"
