"""Captions from records and masks: one for every accepted frame, one for every mask on it."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field

from sono.annotation.caption_facts import FACT_COLUMNS, facts_of, listed_structures
from sono.annotation.caption_writer import Caption, CaptionWriter
from sono.annotation.findings import with_own_places
from sono.annotation.lint import FINDINGS, LintRules, clip_token_counter
from sono.annotation.reviewed_captions import REVIEWED, Place, ReviewedCaptions
from sono.curation.core.column_values import LEVELS, TIERS
from sono.curation.core.config import Config
from sono.curation.core.console import progress
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.table_batches import write_batches
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.templates.loader import CaptionTemplates, load_templates

Placed = tuple[Place, Caption]
BATCH = 1 << 16  # frames whose captions are in memory at a time; they are a row group
PROGRESS_STEP = 2_000  # frames; to draw the bar takes longer than a caption

COLUMNS = ("image_id", "status", "center", "machine", *FACT_COLUMNS)  # of the images table
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
    images, masks = workspace.accepted_images(COLUMNS), workspace.masks()
    writer = caption_writer(workspace, images, templates)
    earlier = workspace.read(CAPTIONS)
    reviewed, levels = ReviewedCaptions.of(earlier), {"global", *earlier["level"]}
    del earlier
    tally = _Tally(writer.templates.id)
    path, mark = workspace.path(CAPTIONS), workspace.study().key_check
    with workspace.lock(), write_batches(path, CAPTIONS, mark) as write:
        for batch in _captions_of(writer, _in_order(images), masks, reviewed):
            tally.add(batch)
            write(_table(batch, writer.templates.id))
        summary = tally.summary(reviewed.outdated())
        _refuse_to_lose(path, levels & tally.levels, summary)
    check_privacy(workspace)
    return summary


def _in_order(images: pd.DataFrame) -> pd.DataFrame:
    return images.drop_duplicates("image_id").sort_values("image_id", ignore_index=True)


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


def _refuse_to_lose(path: Path, levels: Collection[str], summary: CaptionSummary) -> None:
    """Raise SonoError if all captions of one of `levels` would be refused."""
    for level in levels:
        if not sum(summary.counts[level].values()):
            codes = ", ".join(f"{code} {count}" for code, count in summary.findings.items())
            kept = f"{path.name} stays as it is" if path.exists() else "nothing was written"
            raise SonoError(
                f"template set '{summary.template}': every {level} caption was refused ({codes}), "
                f"so {kept}; correct the template or the records; {summary.examples[0]}"
            )


def _captions_of(
    writer: CaptionWriter, images: pd.DataFrame, masks: pd.DataFrame, reviewed: ReviewedCaptions
) -> Iterator[list[Placed]]:
    """A caption for every frame and every usable mask, refused ones included, in batches."""
    masked = _masks_by_image(masks[masks["state"] != "rejected"])
    batch: list[Placed] = []
    with progress("captions", len(images)) as advance:
        for number, (image_id, recorded) in enumerate(facts_of(images), start=1):
            own = masked.get(image_id, [])
            shown = {structure for _, structure in own}
            structures = listed_structures(recorded, shown, writer.rules.planes)
            facts = recorded._replace(structures=structures)
            for mask_id, structure in ((None, None), *own):
                place = (image_id, mask_id)
                stated = facts._replace(structure=structure)
                caption = reviewed.caption(place, stated, writer) or writer.write(stated)
                batch.append((place, caption))
            if number % PROGRESS_STEP == 0 or number == len(images):
                advance((number - 1) % PROGRESS_STEP + 1)
            if number % BATCH == 0 or number == len(images):
                yield batch
                batch = []


def _masks_by_image(masks: pd.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Mask ids and structures of each frame."""
    found: dict[str, list[tuple[str, str]]] = {}
    columns = (masks[name].tolist() for name in ("image_id", "mask_id", "structure"))
    for image_id, mask_id, structure in zip(*columns, strict=True):
        found.setdefault(image_id, []).append((mask_id, structure))
    return found


def _table(batch: list[Placed], template_id: str) -> pd.DataFrame:
    """The captions table of those without findings."""
    kept = [(place, caption) for place, caption in batch if not caption.findings]
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


class _Tally:
    """Counts captions batch by batch for the summary."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.levels: set[str] = set()  # of all captions, refused or not
        self.counts = {level: dict.fromkeys(TIERS, 0) for level in LEVELS}
        self.findings: Counter[str] = Counter()
        self.examples: dict[str, str] = {}  # the first of each finding
        self.refused: list[RefusedCaption] = []
        self.shortened = self.corrected = self.wrong = 0

    def add(self, batch: list[Placed]) -> None:
        """Count the captions of a batch."""
        for place, caption in batch:
            level = _level(place)
            self.levels.add(level)
            self.counts[level][caption.tier] += not caption.findings and caption.state != "wrong"
            self.shortened += caption.shortened
            self.corrected += caption.state == "corrected" and not caption.findings
            self.wrong += caption.state == "wrong"
            if caption.findings:
                self._refuse(place, caption)

    def _refuse(self, place: Place, caption: Caption) -> None:
        self.findings.update(caption.findings)
        for code, line in zip(caption.findings, caption.places, strict=True):
            text = f"{line}: {code}, {FINDINGS[code]}: '{caption.text}'"
            self.examples.setdefault(code, text)
        self.refused.append(RefusedCaption(*place, caption.findings))

    def summary(self, outdated: tuple[str, ...]) -> CaptionSummary:
        """All counts; `outdated` are the reviewers' decisions that do not apply any more."""
        return CaptionSummary(
            self.template,
            self.counts,
            dict(sorted(self.findings.items())),
            {code: FINDINGS[code] for code in sorted(self.findings)},
            len(self.refused),
            tuple(
                f"{text} of {_names(code, self.refused)}" for code, text in self.examples.items()
            ),
            self.shortened,
            self.corrected,
            self.wrong,
            outdated,
            tuple(self.refused),
        )


def _names(code: str, refused: list[RefusedCaption]) -> str:
    """The first captions with a finding, by frame and mask."""
    names = [caption.name for caption in refused if code in caption.findings]
    more = f" and {len(names) - MAX_NAMES} more" * (len(names) > MAX_NAMES)
    return f"{', '.join(names[:MAX_NAMES])}{more}"


def _level(place: Place) -> str:
    return "global" if place[1] is None else "region"
