"""Captions from records and masks: one for every accepted frame, one for every mask on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import Field

from sono.annotation.caption_facts import facts_of, listed_structures
from sono.annotation.caption_writer import Caption, CaptionWriter
from sono.annotation.findings import with_own_places
from sono.annotation.lint import FINDINGS, LintRules, clip_token_counter
from sono.annotation.reviewed_captions import REVIEWED, Place, ReviewedCaptions
from sono.curation.core.column_values import LEVELS, TIERS
from sono.curation.core.config import MAX_SEED, Config
from sono.curation.core.console import progress
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.templates.loader import CaptionTemplates, load_templates

PROGRESS_STEP = 2_000  # frames; to draw the bar takes longer than a caption

MAX_SETS = 4  # template sets at a time
MAX_NAMES = 5  # refused captions that a message names


class CaptionConfig(Config):
    """`[captions]` of `sono.toml`: template sets, token limit, banned words, places of findings."""

    template: str = "standard"
    sets: tuple[str, ...] = Field((), max_length=MAX_SETS)  # several; their first is the main one
    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the phrasing of each frame and mask
    max_tokens: int = Field(77, ge=1)
    banned: tuple[str, ...] = ()
    finding_places: dict[str, tuple[str, ...]] = Field(
        {}
    )  # structures, planes or regions that show a study's own findings

    @property
    def names(self) -> tuple[str, ...]:
        """The template sets that write captions, the main one first."""
        return self.sets or (self.template,)


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


class Placed(NamedTuple):
    """A caption with its frame and mask, and the id of the template set that wrote it."""

    place: Place
    template: str
    caption: Caption


def build_captions(
    workspace: Workspace, template: str | Sequence[str] | None = None
) -> CaptionSummary:
    """Write captions.parquet: each template set's caption of every accepted frame and usable mask.

    `template` is one set or several (None: those of the settings). A caption with a lint finding is
    refused: it is counted in the summary and not written. Raises PrivacyError if a template or a
    record brings private text into the workspace.
    """
    config = workspace.settings("captions", CaptionConfig)
    names = (template,) if isinstance(template, str) else tuple(template or config.names)
    sets = _load_sets(names)
    images, masks = workspace.accepted_images(), workspace.masks()
    first = caption_writer(workspace, images, sets[0])
    writers = [
        [CaptionWriter(one, first.rules, first.places) for one in (main, *main.others)]
        for main in sets
    ]
    reviewed = ReviewedCaptions.of(workspace.read(CAPTIONS), [one.name for one in sets])
    frames = images.drop_duplicates("image_id")
    placed = _captions_of(writers, frames, masks, reviewed, config.seed)
    summary = _summary(placed, ", ".join(one.id for one in sets), reviewed.outdated())
    _refuse_to_lose(workspace, placed, summary)
    with workspace.lock():
        workspace.write(CAPTIONS, _table(placed))
    check_privacy(workspace)
    return summary


def _load_sets(names: Sequence[str]) -> list[CaptionTemplates]:
    """The template sets; SonoError for too many, or for two of one name."""
    if len(names) > MAX_SETS:
        raise SonoError(f"{len(names)} template sets; give {MAX_SETS} at most")
    sets = [load_templates(name) for name in names]
    counts = Counter(one.name for one in sets)
    for name, count in counts.items():
        if count > 1:
            raise SonoError(f"{count} template sets are called '{name}'; rename or drop one")
    return sets


def caption_writer(
    workspace: Workspace, images: pd.DataFrame, templates: CaptionTemplates | None = None
) -> CaptionWriter:
    """The writer of a study; centers and machines of its `images` are banned words."""
    config = workspace.settings("captions", CaptionConfig)
    planes = workspace.planes()
    banned = {*config.banned, *images["center"].dropna(), *images["machine"].dropna()}
    rules = LintRules(clip_token_counter(), planes, frozenset(banned), config.max_tokens)
    places = with_own_places(config.finding_places, planes)
    return CaptionWriter(templates or load_templates(config.names[0]), rules, places)


def of_main_set(workspace: Workspace, captions: pd.DataFrame) -> "pd.Series[bool]":
    """Which captions are of the main template set of the settings."""
    main = Path(workspace.settings("captions", CaptionConfig).names[0]).name
    return captions["template"].str.rpartition("-")[0].eq(main)


def _refuse_to_lose(workspace: Workspace, placed: list[Placed], summary: CaptionSummary) -> None:
    """Raise SonoError if a set's global captions, or its region captions, would all be refused."""
    earlier = {"global", *workspace.read(CAPTIONS, ["level"])["level"]}
    kept = Counter((one.template, _level(one.place)) for one in placed if _is_usable(one.caption))
    for template, level in dict.fromkeys((one.template, _level(one.place)) for one in placed):
        if level in earlier and not kept[template, level]:
            codes = ", ".join(f"{code} {count}" for code, count in summary.findings.items())
            left = (
                "captions.parquet stays as it is"
                if workspace.path(CAPTIONS).exists()
                else "nothing was written"
            )
            raise SonoError(
                f"template set '{template}': every {level} caption was refused ({codes}), "
                f"so {left}; correct the template or the records; {summary.examples[0]}"
            )


def _captions_of(
    writers: Sequence[Sequence[CaptionWriter]],
    images: pd.DataFrame,
    masks: pd.DataFrame,
    reviewed: ReviewedCaptions,
    seed: int,
) -> list[Placed]:
    """A caption of each set for every frame and every usable mask, refused ones included.

    `writers` are those of each set, one for each of its phrasings.
    """
    masked = _masks_by_image(masks[masks["state"] != "rejected"])
    placed: list[Placed] = []
    with progress("captions", len(images)) as advance:
        for number, (image_id, recorded) in enumerate(facts_of(images), start=1):
            own = masked.get(image_id, [])
            shown = {structure for _, structure in own}
            structures = listed_structures(recorded, shown, writers[0][0].rules.planes)
            facts = recorded._replace(structures=structures)
            for mask_id, structure in ((None, None), *own):
                place = (image_id, mask_id)
                stated = facts._replace(structure=structure)
                for phrasings in writers:
                    templates = phrasings[0].templates
                    writer = phrasings[templates.phrasing(mask_id or image_id, seed)]
                    caption = reviewed.caption(place, stated, writer) or writer.write(stated)
                    placed.append(Placed(place, templates.id, caption))
            if number % PROGRESS_STEP == 0 or number == len(images):
                advance((number - 1) % PROGRESS_STEP + 1)
    return placed


def _is_usable(caption: Caption) -> bool:
    return not caption.findings and caption.state != "wrong"


def _masks_by_image(masks: pd.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Mask ids and structures of each frame."""
    found: dict[str, list[tuple[str, str]]] = {}
    columns = (masks[name].tolist() for name in ("image_id", "mask_id", "structure"))
    for image_id, mask_id, structure in zip(*columns, strict=True):
        found.setdefault(image_id, []).append((mask_id, structure))
    return found


def _table(placed: list[Placed]) -> pd.DataFrame:
    """The captions table of those without findings."""
    kept = [one for one in placed if not one.caption.findings]
    captions = [one.caption for one in kept]
    return pd.DataFrame(
        {
            "image_id": [one.place[0] for one in kept],
            "mask_id": pd.array([one.place[1] for one in kept], dtype="str"),
            "level": [_level(one.place) for one in kept],
            "text": [one.text for one in captions],
            "template": [one.template for one in kept],
            "tier": [one.tier for one in captions],
            "tokens": pd.array([one.tokens for one in captions], dtype="Int32"),
            "fields": pd.Series([list(one.fields) for one in captions], dtype=object),
            **{
                name: pd.array([one.review.get(name) for one in captions], dtype="str")
                for name in REVIEWED
            },
        }
    )


def _summary(placed: list[Placed], template: str, outdated: tuple[str, ...]) -> CaptionSummary:
    counts = {level: dict.fromkeys(TIERS, 0) for level in LEVELS}
    findings: Counter[str] = Counter()
    examples: dict[str, str] = {}  # the first of each finding
    refused: list[RefusedCaption] = []
    for place, _, caption in placed:
        findings.update(caption.findings)
        for code, line in zip(caption.findings, caption.places, strict=True):
            examples.setdefault(code, f"{line}: {code}, {FINDINGS[code]}: '{caption.text}'")
        if caption.findings:
            refused.append(RefusedCaption(*place, caption.findings))
        counts[_level(place)][caption.tier] += _is_usable(caption)
    captions = [one.caption for one in placed]
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
