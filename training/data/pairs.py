"""Frames, masks and captions at the model's size, and the batches drawn from them."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sono.annotation.captions import MAX_SETS
from sono.training.config import AugmentConfig, TrainingConfig
from sono.training.data.augment import BatchRandom, augment, carries_side
from sono.training.data.frame_cache import FrameRows, mask_of
from sono.training.data.sampling import balancing_weights, curriculum_weight
from sono.training.objectives.attributes import (
    NOTHING,
    AttributeRows,
    Attributes,
    AttributeTable,
)
from sono.training.objectives.facts import Facts


class Phrased(NamedTuple):
    """A caption of another template set, with the attributes that it states."""

    caption: str
    attributes: Attributes


@dataclass(frozen=True)
class MaskedRegion:
    """One mask of a frame, its caption, the attributes of the caption, and its grade.

    The mask is stored as run lengths (see `runs_of`). Grade 0 is best. `more` are the captions of
    further template sets.
    """

    runs: NDArray[np.uint32]
    caption: str
    attributes: Attributes = NOTHING
    grade: int = 0
    structure: str = ""
    prompts: tuple[str, ...] = ()  # short phrasings of its structure, as region naming uses them
    more: tuple[Phrased, ...] = ()

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
    more: tuple[Phrased, ...] = ()  # captions of further template sets


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
        return sorted({text for one in self._captioned for text, _ in _phrasings(one)})

    @property
    def _captioned(self) -> Iterator[Example | MaskedRegion]:
        for example in self.examples:
            yield example
            yield from example.regions

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
        own |= {region.named for example in self.examples for region in example.regions}
        own |= {words for one in self._captioned for _, words in _phrasings(one)}
        return AttributeTable(own)

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
    # facts that hold for the frame under this mask: the short one, and its captions
    true: tuple[str, ...] = ()


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


def _draw_pair(
    example: Example, regions: list[MaskedRegion], mixture: PairMixture, generator: torch.Generator
) -> _Pair:
    """Draw a pair: a mask of `regions` and its caption, or the whole frame."""
    whole, prompt, choice = torch.rand(3, generator=generator).tolist()
    weights = [
        curriculum_weight(region.grade, mixture.done, mixture.curriculum) for region in regions
    ]
    best = max(weights, default=0.0)
    region: MaskedRegion | None
    if best and whole >= mixture.global_fraction + (1 - mixture.global_fraction) * (1 - best):
        region = regions[bisect_right(list(accumulate(weights)), choice * sum(weights))]
        short = f"structure {region.structure or region.caption}"
        prompts, share, words = region.prompts, mixture.region_prompts, region.named
    else:
        region = None
        short = f"plane {example.plane or example.caption}"
        prompts, share, words = example.prompts, mixture.prompt_fraction, Attributes(example.path)
    phrasings = _phrasings(region or example)
    true = (short, *(text for text, _ in phrasings))
    true += (short,) * (1 + MAX_SETS - len(true))  # as many in every batch and process
    if prompts and prompt < share:
        phrasing = torch.randint(len(prompts), (), generator=generator).item()
        return _Pair(region, prompts[int(phrasing)], words, short, true)
    # a set more draws nothing more where there is one caption
    number = torch.randint(len(phrasings), (), generator=generator) if len(phrasings) > 1 else 0
    text, attributes = phrasings[int(number)]
    return _Pair(region, text, attributes, text, true)


def _phrasings(one: Example | MaskedRegion) -> tuple[Phrased, ...]:
    """All captions of a frame or mask."""
    return (Phrased(one.caption, one.attributes), *one.more)


def _unpack(region: MaskedRegion | None, side: int) -> NDArray[np.bool_]:
    return np.ones((side, side), np.bool_) if region is None else mask_of(region.runs, side)
