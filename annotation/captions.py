"""Captions from records and masks: one for every accepted frame, one for every mask on it."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from sono.annotation.caption_facts import FACT_COLUMNS, facts_of, listed_structures
from sono.annotation.caption_writer import Caption, CaptionWriter
from sono.annotation.clip_tokens import clip_token_counter
from sono.annotation.findings import with_own_places
from sono.annotation.lint import FINDINGS, LintRules
from sono.annotation.reviewed_captions import REVIEWED, Place, ReviewedCaptions
from sono.curation.core.column_values import LEVELS, TIERS
from sono.curation.core.config import MAX_SEED, Config
from sono.curation.core.console import progress
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.table_batches import write_batches
from sono.curation.core.table_checks import to_pandas
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.templates.loader import CaptionTemplates, load_templates

BATCH = 1 << 16  # frames whose captions are in memory at a time; they are a row group
PROGRESS_STEP = 2_000  # frames; to draw the bar takes longer than a caption
MAX_LISTED = 1 << 14  # lists of structures, of which frames have few different ones
MAX_SETS = 4  # template sets at a time
MASK_COLUMNS = ("image_id", "mask_id", "structure", "state")
COLUMNS = ("image_id", "status", "center", "machine", *FACT_COLUMNS)  # of the images table
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
    images, masks = workspace.images_arrow(COLUMNS), workspace.masks(MASK_COLUMNS)
    workspace.refuse_none_accepted(images)
    images = images.filter(pc.equal(images["status"], "accepted")).drop_columns(["status"])
    named = images.select(["center", "machine"])
    banned = to_pandas(named.group_by(["center", "machine"]).aggregate([]))
    first = caption_writer(workspace, banned, sets[0])
    writers = [
        [CaptionWriter(one, first.rules, first.places) for one in (main, *main.others)]
        for main in sets
    ]
    earlier = workspace.read(CAPTIONS, ["image_id", "level", "state"])
    levels, decided = {"global", *earlier["level"].unique()}, earlier["state"].notna().any()
    earlier = workspace.read(CAPTIONS) if decided else earlier.iloc[:0]
    reviewed = ReviewedCaptions.of(earlier, [one.name for one in sets])
    tally = _Tally(", ".join(one.id for one in sets))
    path, mark = workspace.path(CAPTIONS), workspace.study().key_check
    with workspace.lock(), write_batches(path, CAPTIONS, mark) as write:
        for batch in _captions_of(writers, images, masks, reviewed, config.seed):
            tally.add(batch)
            write(_table(batch))
        summary = tally.summary(reviewed.outdated())
        _refuse_to_lose(path, tally, levels, summary)
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


def _in_order(images: pa.Table, masks: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Each frame once, by its id, and the usable masks of these frames, in batches."""
    ids = to_pandas(images.select(["image_id"]))["image_id"]
    order = ids.drop_duplicates().sort_values().index.to_numpy()
    usable = masks[masks["state"] != "rejected"].sort_values("image_id", kind="stable")
    for start in range(0, len(order), BATCH):
        frames = to_pandas(images.take(order[start : start + BATCH]))
        first, last = frames["image_id"].iloc[[0, -1]]
        yield frames, usable[usable["image_id"].between(first, last)]


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
    return captions["template"].str.rsplit("-", n=1).str[0].eq(main)


def in_order(workspace: Workspace, captions: pd.DataFrame) -> pd.DataFrame:
    """Captions by frame, global ones first, then by mask, the main template set first."""
    keys = ["image_id", "level", "mask_id", "other", "template"]
    other = ~of_main_set(workspace, captions)
    return captions.assign(other=other).sort_values(keys, kind="stable").drop(columns="other")


def _refuse_to_lose(
    path: Path, tally: "_Tally", levels: Collection[str], summary: CaptionSummary
) -> None:
    """Raise SonoError if all captions of a set at one of `levels` would be refused."""
    for template, level in tally.written:
        if level in levels and not tally.kept[template, level]:
            codes = ", ".join(f"{code} {count}" for code, count in summary.findings.items())
            left = f"{path.name} stays as it is" if path.exists() else "nothing was written"
            raise SonoError(
                f"template set '{template}': every {level} caption was refused ({codes}), "
                f"so {left}; correct the template or the records; {summary.examples[0]}"
            )


def _captions_of(
    writers: Sequence[Sequence[CaptionWriter]],
    images: pa.Table,
    masks: pd.DataFrame,
    reviewed: ReviewedCaptions,
    seed: int,
) -> Iterator[list[Placed]]:
    """A caption of each set for every frame and every usable mask, refused ones included.

    `writers` are those of each set, one for each of its phrasings. The captions come in batches.
    """
    planes = writers[0][0].rules.planes
    listed = lru_cache(maxsize=MAX_LISTED)(partial(listed_structures, planes=planes))
    with progress("captions", len(images)) as advance:
        for frames, usable in _in_order(images, masks):
            masked, batch = _masks_by_image(usable), list[Placed]()
            for number, (image_id, recorded) in enumerate(facts_of(frames), start=1):
                own = masked.get(image_id, [])
                shown = frozenset(structure for _, structure in own)
                structures = listed(recorded.plane, recorded.structures, shown)
                facts = recorded._replace(structures=structures)
                for mask_id, structure in ((None, None), *own):
                    place = (image_id, mask_id)
                    stated = facts if structure is None else facts._replace(structure=structure)
                    for phrasings in writers:
                        templates = phrasings[0].templates
                        writer = phrasings[templates.phrasing(mask_id or image_id, seed)]
                        caption = reviewed.caption(place, stated, writer) or writer.write(stated)
                        batch.append(Placed(place, templates.id, caption))
                if number % PROGRESS_STEP == 0 or number == len(frames):
                    advance((number - 1) % PROGRESS_STEP + 1)
            yield batch


def _is_usable(caption: Caption) -> bool:
    return not caption.findings and caption.state != "wrong"


def _masks_by_image(masks: pd.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Mask ids and structures of each frame."""
    found: dict[str, list[tuple[str, str]]] = {}
    columns = (masks[name].tolist() for name in ("image_id", "mask_id", "structure"))
    for image_id, mask_id, structure in zip(*columns, strict=True):
        found.setdefault(image_id, []).append((mask_id, structure))
    return found


def _table(batch: list[Placed]) -> pd.DataFrame:
    """The captions table of those without findings."""
    kept = [one for one in batch if not one.caption.findings]
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
            **_reviews(captions),
        }
    )


def _reviews(captions: Sequence[Caption]) -> dict[str, object]:
    """The columns of what reviewers decided on captions, which is nothing on most."""
    if not any(one.review for one in captions):
        return dict.fromkeys(REVIEWED, pd.array([None] * len(captions), dtype="str"))
    return {
        name: pd.array([one.review.get(name) for one in captions], dtype="str") for name in REVIEWED
    }


class _Tally:
    """Counts captions batch by batch for the summary."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.written: dict[tuple[str, str], None] = {}  # set and level of all captions, in order
        self.kept: Counter[tuple[str, str]] = Counter()  # of those that are usable
        self.counts = {level: dict.fromkeys(TIERS, 0) for level in LEVELS}
        self.findings: Counter[str] = Counter()
        self.examples: dict[str, str] = {}  # the first of each finding
        self.refused: list[RefusedCaption] = []
        self.shortened = self.corrected = self.wrong = 0

    def add(self, batch: list[Placed]) -> None:
        """Count the captions of a batch."""
        for place, template, caption in batch:
            level, usable = _level(place), _is_usable(caption)
            self.written[template, level] = None
            self.kept[template, level] += usable
            self.counts[level][caption.tier] += usable
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
