"""Captions from records and masks: one for every accepted frame, one for every mask on it."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import pandas as pd
from pydantic import Field

from sono.annotation.findings import PLACES, Places, mention_findings, spoken, with_own_places
from sono.annotation.lint import LintRules, clip_token_counter, lint
from sono.curation.core.column_values import LEVELS, TIERS
from sono.curation.core.config import Config
from sono.curation.core.console import progress
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.planes import Plane, PlaneTable
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.templates.loader import MAX_TEXT_CHARS, CaptionTemplates, Values, load_templates

DAYS_A_WEEK = 7
PROGRESS_STEP = 2_000  # frames; to draw the bar takes longer than a caption
# by how many of plane, gestational age and structures are there
_TIERS = ("label", "label", "partial", "full")


_Place = tuple[str, str | None]  # image id, and mask id of a region caption


class CaptionConfig(Config):
    """`[captions]` of `sono.toml`: template set, token limit, banned words, places of findings."""

    template: str = "standard"
    max_tokens: int = Field(77, ge=1)
    banned: tuple[str, ...] = ()
    finding_places: dict[str, tuple[str, ...]] = Field(
        {}
    )  # structures, planes or regions that show a study's own findings


class Facts(NamedTuple):
    """What the record and the masks state about a frame, or about one mask (`structure`).

    Equal facts give equal captions.
    """

    plane: str | None = None  # a plane id, "other" or None
    region: str | None = None
    ga_days: int | None = None
    structures: tuple[str, ...] = ()
    structure: str | None = None
    laterality: str | None = None
    presentation: str | None = None
    findings: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        return "region" if self.structure else "global"


@dataclass(frozen=True)
class Caption:
    """A rendered caption; with `findings` (see annotation.lint) it is refused."""

    text: str
    tier: str
    tokens: int
    fields: tuple[str, ...]
    findings: tuple[str, ...]
    shortened: bool  # lists fewer structures than the facts


@dataclass(frozen=True)
class CaptionSummary:
    """What was written and what was refused: `counts` by level and tier, `findings` by code."""

    template: str
    counts: dict[str, dict[str, int]]
    findings: dict[str, int]
    refused: int
    examples: dict[str, str]  # a refused text for each finding
    shortened: int  # captions that list fewer structures than there are, to fit the text encoder

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
        return facts if names & {"structures", "tier"} else facts._replace(structures=())

    def _write(self, facts: Facts) -> Caption:
        plane = find_plane(facts.plane, self.rules.planes)
        fitted, values, text = self._fit(facts)
        used = _fields_used(text, values, self.templates.printed(facts.level))
        listed = (facts.structure,) if facts.structure else facts.structures
        findings = lint(
            text, self.rules, plane, listed, [spoken(finding) for finding in facts.findings]
        )
        tokens = self.rules.count_tokens(text)
        return Caption(
            text, _tier(used), tokens, used, tuple(findings), len(fitted) < len(facts.structures)
        )

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


def caption_values(facts: Facts, planes: PlaneTable, places: Places = PLACES) -> Values:
    """The values that a template gets: names and English lists, null where unknown.

    A frame outside the standard planes has at most a region; its plane is null.
    """
    plane = find_plane(facts.plane, planes)
    mentioned = mention_findings(facts.findings, plane, places)
    weeks, days = divmod(facts.ga_days, DAYS_A_WEEK) if facts.ga_days is not None else (None, None)
    structures = english_list(facts.structures)
    known = sum((plane is not None, weeks is not None, bool(facts.structure or structures)))
    return {
        "plane": plane.name if plane else None,
        "region": facts.region or (plane.region if plane else None),
        "weeks": weeks,
        "days": days,
        "ga": ga_in_words(facts.ga_days),
        "structures": structures,
        "structure": facts.structure,
        "laterality": facts.laterality,
        "presentation": facts.presentation,
        "findings": english_list([spoken(finding) for finding in mentioned.plane]),
        "study_findings": english_list([spoken(finding) for finding in mentioned.study]),
        "tier": _TIERS[known],
    }


def find_plane(plane_id: str | None, planes: PlaneTable) -> Plane | None:
    """The plane of an id; None for an unknown plane and for "other".

    Raises SonoError for an id that is not in the table.
    """
    planes.check([plane_id])
    return planes.by_id.get(plane_id or "")


def ga_in_words(ga_days: int | None) -> str | None:
    """`22 weeks and 3 days` of a gestational age in days."""
    if ga_days is None:
        return None
    weeks, days = divmod(ga_days, DAYS_A_WEEK)
    text = f"{weeks} week{'s' * (weeks != 1)}"
    return f"{text} and {days} day{'s' * (days != 1)}" if days else text


def english_list(words: Sequence[str]) -> str | None:
    """`a, b and c`; None for no words."""
    if not words:
        return None
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _within(words: tuple[str, ...], chars: int) -> tuple[str, ...]:
    """The first of `words` that together have at most `chars` characters; one at least."""
    ends = accumulate(len(word) + 2 for word in words)
    return words[: max(1, sum(end <= chars for end in ends))]


def _fields_used(text: str, values: Values, printed: Iterable[str]) -> tuple[str, ...]:
    """The known values that the template may print and that occur in the text."""
    known = {name: str(values[name]).casefold() for name in printed if values.get(name) is not None}
    left, used = text.casefold(), []
    # the longest first, each found once and taken out, so that "head" is not found in "fetal head"
    for name in sorted(known, key=lambda name: (-len(known[name]), name)):
        if known[name] in left:
            left = left.replace(known[name], "\0", 1)
            used.append(name)
    return tuple(sorted(used))


def _tier(used: Collection[str]) -> str:
    aged = not {"ga", "weeks"}.isdisjoint(used)
    shown = not {"structures", "structure"}.isdisjoint(used)
    return _TIERS[sum(("plane" in used, aged, shown))]


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
            code, example = next(iter(summary.examples.items()))
            kept = (
                "captions.parquet stays as it is"
                if workspace.path(CAPTIONS).exists()
                else "nothing was written"
            )
            raise SonoError(
                f"template set '{summary.template}': every {level} caption was refused ({codes}), "
                f"so {kept}; correct the template or the records: '{example}' has {code}"
            )


def _captions_of(
    writer: CaptionWriter, images: pd.DataFrame, masks: pd.DataFrame
) -> tuple[list[_Place], list[Caption]]:
    """A caption for every frame and every usable mask, refused ones included, with its place."""
    masked = _masks_by_image(masks[masks["state"] != "rejected"])
    places: list[_Place] = []
    captions: list[Caption] = []
    with progress("captions", len(images)) as advance:
        for number, (image_id, recorded) in enumerate(_facts_of(images), start=1):
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


def _facts_of(images: pd.DataFrame) -> Iterator[tuple[str, Facts]]:
    """The image id and the recorded facts of each row."""
    names = (
        "image_id",
        "plane",
        "region",
        "ga_days",
        "structures",
        "laterality",
        "presentation",
        "findings",
    )
    columns = [
        images[name].astype(object).where(images[name].notna(), None).tolist() for name in names
    ]
    for image_id, plane, region, ga_days, structures, laterality, presentation, findings in zip(
        *columns, strict=True
    ):
        recorded = () if structures is None else tuple(structures)
        coded = () if findings is None else tuple(findings)
        yield (
            image_id,
            Facts(plane, region, ga_days, recorded, None, laterality, presentation, coded),
        )


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
    examples: dict[str, str] = {}
    for place, caption in zip(places, captions, strict=True):
        findings.update(caption.findings)
        for code in caption.findings:
            examples.setdefault(code, caption.text)
        counts[_level(place)][caption.tier] += not caption.findings
    return CaptionSummary(
        writer.templates.id,
        counts,
        dict(sorted(findings.items())),
        sum(bool(caption.findings) for caption in captions),
        examples,
        sum(caption.shortened for caption in captions),
    )


def _level(place: _Place) -> str:
    return "global" if place[1] is None else "region"
