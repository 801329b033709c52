"""Frames, masks and captions at the model's size, and the batches drawn from them."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sono.annotation.masks import check_masks
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS, MASKS, rows_of
from sono.curation.core.workspace import Workspace
from sono.templates.loader import CaptionTemplates
from sono.training.config import AugmentConfig, TrainingConfig
from sono.training.data.augment import BatchRandom, augment, carries_side
from sono.training.data.frame_cache import FrameRows, mask_of, packed_frames, packed_masks
from sono.training.data.sampling import balancing_weights, curriculum_weight, mask_grade
from sono.training.objectives.attributes import (
    NOTHING,
    AttributeRows,
    Attributes,
    AttributeTable,
    caption_attributes,
    plane_path,
)
from sono.training.objectives.facts import Facts


@dataclass(frozen=True)
class MaskedRegion:
    """One mask of a frame, its caption, the attributes of the caption, and its grade.

    The mask is stored as run lengths (see `runs_of`). Grade 0 is best.
    """

    runs: NDArray[np.uint32]
    caption: str
    attributes: Attributes = NOTHING
    grade: int = 0
    structure: str = ""
    prompts: tuple[str, ...] = ()  # short phrasings of its structure, as region naming uses them

    @property
    def named(self) -> Attributes:
        """The attributes of a prompt."""
        return Attributes(values=frozenset({("structures", self.structure)}))


@dataclass(frozen=True)
class Example:
    """The texts and regions of a frame."""

    image_id: str
    plane: str | None
    caption: str
    prompts: tuple[str, ...]  # short phrasings of its plane, as zero-shot classification uses them
    regions: tuple[MaskedRegion, ...]
    attributes: Attributes = NOTHING  # of the caption
    path: tuple[str, ...] = ()  # of the plane in the anatomy tree, which is all that a prompt says
    center: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class PairSet:
    """Frames [n, S, S] uint8 and the example of each."""

    frames: NDArray[np.uint8] | FrameRows
    examples: tuple[Example, ...]
    known: AttributeTable | None = None  # of a larger whole that this is a part of

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def size(self) -> int:
        """The side S in pixels."""
        return int(self.frames.shape[1])

    @property
    def regions(self) -> int:
        """The number of masks."""
        return sum(len(example.regions) for example in self.examples)

    @property
    def captions(self) -> list[str]:
        """The different captions of frames and regions, sorted."""
        own = {example.caption for example in self.examples}
        return sorted(
            own.union(region.caption for example in self.examples for region in example.regions)
        )

    @property
    def pixels(self) -> tuple[float, float]:
        """Mean and standard deviation of all pixels, in [0, 1]."""
        return float(self.frames.mean()) / 255, float(self.frames.std()) / 255

    @cached_property
    def table(self) -> AttributeTable:
        """The attributes of all captions and prompts."""
        if self.known is not None:
            return self.known
        own = {Attributes(example.path) for example in self.examples}
        own |= {example.attributes for example in self.examples}
        regions = [region for example in self.examples for region in example.regions]
        return AttributeTable(own.union(*((region.attributes, region.named) for region in regions)))

    def places(self, regions_per_frame: int) -> list[int] | None:
        """How many pairs of a batch each frame may fill: one per region, up to a limit.

        The limit is `regions_per_frame`. None means one pair per frame.
        """
        if regions_per_frame == 1:
            return None
        return [max(1, min(len(example.regions), regions_per_frame)) for example in self.examples]


@dataclass(frozen=True)
class PairMixture:
    """How the pairs of a batch are drawn."""

    global_fraction: float  # of the draws from frames that have masks
    # of the whole-frame captions that are replaced by a short prompt of the plane
    prompt_fraction: float
    augment: AugmentConfig | None
    # several pairs of one frame have different regions, where there are as many
    apart: bool = False
    curriculum: float = 0.0  # share of the run after which the least trusted masks count fully
    done: float = 1.0  # share of the run that is over
    # of the region captions that are replaced by a short prompt of the structure
    region_prompts: float = 0.0

    def of_kind(self, regional: bool | None) -> "PairMixture":
        """The mixture for a place with a region pair or a whole frame; None: either."""
        return self if regional is None else replace(self, global_fraction=0.0 if regional else 1.0)

    @classmethod
    def at(cls, done: float, config: TrainingConfig) -> "PairMixture":
        """The mixture of a run after the share `done` of it."""
        return cls(
            config.global_fraction,
            config.prompt_fraction,
            config.augment,
            config.regions_per_frame > 1,
            config.curriculum,
            done,
            config.region_prompts,
        )


@dataclass(frozen=True)
class Batch:
    """Frames and masks [n, 1, S, S] with their captions, attributes and facts.

    `rows` are the rows of the frames in the pair set.
    """

    image: Tensor
    mask: Tensor
    captions: list[str]
    rows: list[int]
    attributes: AttributeRows
    facts: Facts
    image_ids: tuple[str, ...] = ()  # of a whole batch


class _Pair(NamedTuple):
    region: MaskedRegion | None  # None: the all-one mask
    caption: str
    attributes: Attributes
    stated: str = ""  # the fact that the caption states
    # facts that hold for the frame under this mask: the short one, the whole caption
    true: tuple[str, str] = ("", "")


def load_pairs(
    workspace: Workspace,
    images: pd.DataFrame,
    mask_states: Sequence[str],
    templates: CaptionTemplates,
    side: int,
) -> PairSet:
    """The stored frames of `images` with their captions and masks, letterboxed to `side`.

    They come from the frame cache. `templates` phrase planes and structures. Frames without a
    caption are left out.
    """
    images, tables = _read_tables(workspace, images, mask_states, templates, side)
    frames = packed_frames(workspace, images["file"].tolist(), side)
    return PairSet(frames, tuple(_example(image, tables) for image in rows_of(images)))


def draw_batch(
    pairs: PairSet,
    rows: Sequence[int],
    mixture: PairMixture,
    generator: torch.Generator,
    own: Sequence[int] | None = None,
    regional: Sequence[bool] | None = None,
) -> Batch:
    """Pair each frame of `rows` with a region and its caption, or with the all-one mask.

    The choice is drawn by `mixture`, or given for each place by `regional`. Frames and masks are
    made only for the places `own` of the batch (None: all), with the same values as in the complete
    batch.
    """
    drawn: list[_Pair] = []
    left: dict[int, list[MaskedRegion]] = {}  # regions that no pair of this batch has yet
    for place, row in enumerate(rows):
        regions = (mixture.apart and left.get(row)) or list(pairs.examples[row].regions)
        kind = None if regional is None else regional[place]
        drawn.append(_draw_pair(pairs.examples[row], regions, mixture.of_kind(kind), generator))
        left[row] = [region for region in regions if region is not drawn[-1].region]
    places = list(range(len(rows)) if own is None else own)
    drawn, mine = [drawn[place] for place in places], [rows[place] for place in places]
    image = torch.from_numpy(pairs.frames[mine]).float().div_(255)[:, None]
    mask = torch.from_numpy(np.stack([_unpack(pair.region, pairs.size) for pair in drawn])).float()[
        :, None
    ]
    captions = [pair.caption for pair in drawn]
    if mixture.augment is not None:
        may_flip = torch.tensor([not carries_side(text) for text in captions])
        image, mask = augment(
            image, mask, may_flip, mixture.augment, BatchRandom(generator, len(rows), places)
        )
    attributes = pairs.table.of([pair.attributes for pair in drawn])
    facts = Facts.of(
        [pair.stated for pair in drawn],
        [pair.true for pair in drawn],
        [bool(p.region) for p in drawn],
    )
    return Batch(
        image,
        mask,
        captions,
        mine,
        attributes,
        facts,
        tuple(pairs.examples[row].image_id for row in mine),
    )


def sampling_weights(
    pairs: PairSet, plane: float, center: float = 0.0, patient: float = 0.0
) -> Tensor:
    """Weights [n]: count ** -power for plane, center and patient, multiplied.

    A frame without a patient counts as a patient of its own.
    """
    examples = pairs.examples
    weights = balancing_weights([example.plane for example in examples], plane)
    weights *= balancing_weights([example.center for example in examples], center)
    patients = [
        example.patient if example.patient is not None else row
        for row, example in enumerate(examples)
    ]
    return weights * balancing_weights(patients, patient)


class _Tables(NamedTuple):
    """The tables from which examples are made."""

    planes: PlaneTable
    whole: dict[str, dict[str, Any]]  # captions by image
    regional: dict[str, dict[str, Any]]  # captions by mask
    masks: dict[str, list[dict[str, Any]]]  # by image
    states: frozenset[str]  # of the masks that may be a region
    runs: dict[str, NDArray[np.uint32]]  # by mask
    prompts: dict[str, tuple[str, ...]]  # by plane
    region_prompts: dict[str, tuple[str, ...]]  # by structure


def _read_tables(
    workspace: Workspace,
    images: pd.DataFrame,
    mask_states: Sequence[str],
    templates: CaptionTemplates,
    side: int,
) -> tuple[pd.DataFrame, _Tables]:
    """The images that have a caption, and the tables on them."""
    captions, masks = workspace.captions(), workspace.masks()
    whole = {row["image_id"]: row for row in rows_of(captions[captions["level"] == "global"])}
    regional = {row["mask_id"]: row for row in rows_of(captions[captions["level"] == "region"])}
    lost = set(regional) - set(masks["mask_id"])
    if lost:
        raise SonoError(
            f"{workspace.path(CAPTIONS)}: {len(lost)} of {len(regional)} region captions belong to "
            f"masks that are not in {workspace.path(MASKS).name}; run `sono captions build` again, "
            "or restore that file"
        )
    blank = captions["text"].str.strip().eq("")
    if blank.any():
        raise SonoError(
            f"{workspace.path(CAPTIONS)}: {int(blank.sum())} of {len(captions)} captions are "
            "empty; run `sono captions build` again"
        )
    images = images[images["image_id"].isin(set(whole))]
    by_image: dict[str, list[dict[str, Any]]] = {}
    for mask in rows_of(
        masks[masks["image_id"].isin(set(images["image_id"])) & (masks["state"] != "rejected")]
    ):
        by_image.setdefault(mask["image_id"], []).append(mask)
    captioned = masks[masks["mask_id"].isin(set(regional)) & (masks["state"] != "rejected")]
    every = workspace.images(["image_id", "height", "width"])
    check_masks(captioned[captioned["image_id"].isin(every["image_id"])], every)
    runs = packed_masks(workspace, list(rows_of(captioned)), side)
    planes = workspace.planes()
    prompts = {plane.id: tuple(templates.render_prompts(plane.name)) for plane in planes.planes}
    structures = {
        name: tuple(templates.render_region_prompts(name))
        for name in sorted(set(captioned["structure"]))
    }
    states = frozenset(mask_states)
    return images, _Tables(planes, whole, regional, by_image, states, runs, prompts, structures)


def _example(image: dict[str, Any], tables: _Tables) -> Example:
    caption, masks = tables.whole[image["image_id"]], tables.masks.get(image["image_id"], [])
    named = {mask["structure"] for mask in masks}
    if image["structures"] is not None:
        named.update(image["structures"])
    return Example(
        image["image_id"],
        image["plane"],
        str(caption["text"]),
        tables.prompts.get(image["plane"] or "", ()),
        tuple(
            region for mask in masks if (region := _masked_region(image, mask, tables)) is not None
        ),
        caption_attributes(caption, image, sorted(named), tables.planes),
        plane_path(image["plane"], tables.planes),
        image["center"],
        image["patient_id"],
    )


def _masked_region(
    image: dict[str, Any], mask: dict[str, Any], tables: _Tables
) -> MaskedRegion | None:
    """The region of a mask (a row).

    The result is None if it has no caption, may not be used, or has no pixel at this size.
    """
    caption = tables.regional.get(mask["mask_id"])
    if caption is None or mask["state"] not in tables.states:
        return None
    runs = tables.runs[mask["mask_id"]]
    if len(runs) == 1:  # of zeros
        return None
    attributes = caption_attributes(caption, image, [mask["structure"]], tables.planes)
    grade, structure = mask_grade(mask["source"], mask["state"]), str(mask["structure"])
    return MaskedRegion(
        runs, str(caption["text"]), attributes, grade, structure, tables.region_prompts[structure]
    )


def _draw_pair(
    example: Example, regions: list[MaskedRegion], mixture: PairMixture, generator: torch.Generator
) -> _Pair:
    """Draw a pair: a mask of `regions` and its caption, or the whole frame."""
    whole, prompt, choice = torch.rand(3, generator=generator).tolist()
    weights = [
        curriculum_weight(region.grade, mixture.done, mixture.curriculum) for region in regions
    ]
    best = max(weights, default=0.0)
    if best and whole >= mixture.global_fraction + (1 - mixture.global_fraction) * (1 - best):
        region = regions[bisect_right(list(accumulate(weights)), choice * sum(weights))]
        short = f"structure {region.structure or region.caption}"
        pair = _Pair(
            region, region.caption, region.attributes, region.caption, (short, region.caption)
        )
        prompts, share, words = region.prompts, mixture.region_prompts, region.named
    else:
        short = f"plane {example.plane or example.caption}"
        pair = _Pair(
            None, example.caption, example.attributes, example.caption, (short, example.caption)
        )
        prompts, share, words = example.prompts, mixture.prompt_fraction, Attributes(example.path)
    if prompts and prompt < share:
        phrasing = torch.randint(len(prompts), (), generator=generator).item()
        return pair._replace(caption=prompts[int(phrasing)], attributes=words, stated=short)
    return pair


def _unpack(region: MaskedRegion | None, side: int) -> NDArray[np.bool_]:
    return np.ones((side, side), np.bool_) if region is None else mask_of(region.runs, side)
