"""Captions from records and masks: one for every accepted frame, one for every mask on it."""

from collections import Counter
from dataclasses import dataclass

import pandas as pd
from pydantic import Field

from sono.annotation.caption_facts import facts_of, listed_structures
from sono.annotation.caption_writer import Caption, CaptionWriter
from sono.annotation.findings import with_own_places
from sono.annotation.lint import FINDINGS, LintRules, clip_token_counter
from sono.annotation.reviewed_captions import REVIEWED, Place, ReviewedCaptions
from sono.curation.core.column_values import LEVELS, TIERS
from sono.curation.core.config import Config
from sono.curation.core.console import progress
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.templates.loader import CaptionTemplates, load_templates

PROGRESS_STEP = 2_000  # frames; to draw the bar takes longer than a caption

MAX_NAMES = 5  # refused captions that a message names


class CaptionConfig(Config):
    """`[captions]` of `sono.toml`: template set, token limit, banned words, places of findings."""

    template: str = "standard"
    max_tokens: int = Field(77, ge=1)
    banned: tuple[str, ...] = ()
    finding_places: dict[str, tuple[str, ...]] = Field(
        {}
    )  # structures, planes or regions that show a study's own findings


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
    corrected: int  # by a reviewer, and kept
    marked_wrong: int  # by a reviewer: not used
    outdated: tuple[str, ...]  # what reviewers decided on captions and does not apply any more
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


def build_captions(workspace: Workspace, template: str | None = None) -> CaptionSummary:
    """Write captions.parquet with a caption per accepted frame and per usable mask.

    A caption with a lint finding is refused: it is counted in the summary and not written. Raises
    PrivacyError if a template or a record brings private text into the workspace.
    """
    config = workspace.settings("captions", CaptionConfig)
    templates = load_templates(template or config.template)
    images, masks = workspace.accepted_images(), workspace.masks()
    writer = caption_writer(workspace, images, templates)
    reviewed = ReviewedCaptions.of(workspace.read(CAPTIONS))
    places, captions = _captions_of(writer, images.drop_duplicates("image_id"), masks, reviewed)
    summary = _summary(places, captions, writer.templates.id, reviewed.outdated(places))
    _refuse_to_lose(workspace, places, summary)
    with workspace.lock():
        workspace.write(CAPTIONS, _table(places, captions, writer.templates.id))
    check_privacy(workspace)
    return summary


def caption_writer(
    workspace: Workspace, images: pd.DataFrame, templates: CaptionTemplates | None = None
) -> CaptionWriter:
    """The writer of a study; centers and machines of its `images` are banned words."""
    config = workspace.settings("captions", CaptionConfig)
    planes = workspace.planes()
    banned = {*config.banned, *images["center"].dropna(), *images["machine"].dropna()}
    rules = LintRules(clip_token_counter(), planes, frozenset(banned), config.max_tokens)
    places = with_own_places(config.finding_places, planes)
    return CaptionWriter(templates or load_templates(config.template), rules, places)


def _refuse_to_lose(workspace: Workspace, places: list[Place], summary: CaptionSummary) -> None:
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
    writer: CaptionWriter, images: pd.DataFrame, masks: pd.DataFrame, reviewed: ReviewedCaptions
) -> tuple[list[Place], list[Caption]]:
    """A caption for every frame and every usable mask, refused ones included, with its place."""
    masked = _masks_by_image(masks[masks["state"] != "rejected"])
    places: list[Place] = []
    captions: list[Caption] = []
    with progress("captions", len(images)) as advance:
        for number, (image_id, recorded) in enumerate(facts_of(images), start=1):
            own = masked.get(image_id, [])
            shown = {structure for _, structure in own}
            structures = listed_structures(recorded, shown, writer.rules.planes)
            facts = recorded._replace(structures=structures)
            for mask_id, structure in ((None, None), *own):
                place = (image_id, mask_id)
                stated = facts._replace(structure=structure)
                places.append(place)
                captions.append(reviewed.caption(place, stated, writer) or writer.write(stated))
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


def _table(places: list[Place], captions: list[Caption], template_id: str) -> pd.DataFrame:
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
            **{
                name: pd.array([caption.review.get(name) for _, caption in kept], dtype="str")
                for name in REVIEWED
            },
        }
    )


def _summary(
    places: list[Place], captions: list[Caption], template: str, outdated: tuple[str, ...]
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
        usable = not caption.findings and caption.state != "wrong"
        counts[_level(place)][caption.tier] += usable
    return CaptionSummary(
        template,
        counts,
        dict(sorted(findings.items())),
        {code: FINDINGS[code] for code in sorted(findings)},
        len(refused),
        tuple(f"{text} of {_names(code, refused)}" for code, text in examples.items()),
        sum(caption.shortened for caption in captions),
        sum(one.state == "corrected" and not one.findings for one in captions),
        sum(one.state == "wrong" for one in captions),
        outdated,
        tuple(refused),
    )


def _names(code: str, refused: list[RefusedCaption]) -> str:
    """The first captions with a finding, by frame and mask."""
    names = [caption.name for caption in refused if code in caption.findings]
    more = f" and {len(names) - MAX_NAMES} more" * (len(names) > MAX_NAMES)
    return f"{', '.join(names[:MAX_NAMES])}{more}"


def _level(place: Place) -> str:
    return "global" if place[1] is None else "region"
