"""Frames, masks and captions in memory at the model's size, and the batches drawn from them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sono.curation.console import progress
from sono.curation.geometry import letterbox, letterbox_mask
from sono.curation.rle import decode
from sono.curation.stored import read_stored
from sono.curation.tables import rows_of
from sono.curation.workspace import Workspace
from sono.training.augment import augment
from sono.training.config import AugmentConfig

_SIDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Region:
    """One mask of a frame (packed bits of [S, S]) and its caption."""

    bits: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class Example:
    """What a frame can be paired with."""

    image_id: str
    plane: str | None
    caption: str
    prompts: tuple[str, ...]  # short phrasings of its plane, as zero-shot classification uses them
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class PairSet:
    """Frames [n, S, S] uint8 and what each can be paired with."""

    frames: NDArray[np.uint8]
    examples: tuple[Example, ...]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def size(self) -> int:
        """The side S in pixels."""
        return int(self.frames.shape[1])


@dataclass(frozen=True)
class PairMixture:
    """How the pairs of a batch are drawn."""

    global_fraction: float  # of the draws from frames that have masks
    prompt_fraction: float  # of the whole-frame captions that are replaced by a short prompt of the plane
    augment: AugmentConfig | None


@dataclass(frozen=True)
class Batch:
    """Frames and masks [n, 1, S, S], their captions, and the row of each in the pair set."""

    image: Tensor
    mask: Tensor
    captions: list[str]
    rows: list[int]


def load_pairs(
    workspace: Workspace, images: pd.DataFrame, mask_states: Sequence[str], prompts: dict[str, list[str]], side: int
) -> PairSet:
    """Read the stored frames of `images` with their captions and masks, letterboxed to `side` pixels.

    Frames without a caption are left out.
    """
    captions = workspace.captions()
    whole = captions[captions["level"] == "global"].set_index("image_id")["text"].to_dict()
    images = images[images["image_id"].isin(set(whole))]
    regions = _regions(workspace, captions, mask_states, side, set(images["image_id"]))
    frames = np.empty((len(images), side, side), np.uint8)
    examples = []
    with progress("frames", len(images)) as advance:
        for row, image in enumerate(rows_of(images)):
            frames[row] = letterbox(read_stored(workspace.root / image["file"]), side)
            plane = image["plane"]
            named = tuple(prompts.get(plane or "", ()))
            own = tuple(regions.get(image["image_id"], ()))
            examples.append(Example(image["image_id"], plane, str(whole[image["image_id"]]), named, own))
            advance()
    return PairSet(frames, tuple(examples))


def draw_batch(pairs: PairSet, rows: Sequence[int], mixture: PairMixture, generator: torch.Generator) -> Batch:
    """Pair each frame of `rows` with one region and its caption, or with the all-one mask and a whole caption."""
    masks, texts = [], []
    for row in rows:
        bits, text = _draw_pair(pairs.examples[row], mixture, generator)
        masks.append(_unpack(bits, pairs.size))
        texts.append(text)
    image = torch.from_numpy(pairs.frames[list(rows)]).float().div_(255)[:, None]
    mask = torch.from_numpy(np.stack(masks)).float()[:, None]
    if mixture.augment is not None:
        may_flip = torch.tensor([_SIDED.search(text) is None for text in texts])
        image, mask = augment(image, mask, may_flip, mixture.augment, generator)
    return Batch(image, mask, texts, list(rows))


def seeded(seed: int, number: int) -> torch.Generator:
    """Randomness of one step or epoch, so that a resumed run draws what an unbroken one would."""
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def sampling_weights(pairs: PairSet, balance: float) -> Tensor:
    """How often each frame is drawn [n]: its plane's count to the power of -`balance`."""
    counts = Counter(example.plane for example in pairs.examples)
    return torch.tensor([counts[example.plane] ** -balance for example in pairs.examples], dtype=torch.float64)


def epoch_rows(weights: Tensor, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch, which depend on seed and epoch alone; the short rest is left out.

    Equal `weights` [n] give a permutation; else as many rows are drawn with replacement.
    """
    generator = seeded(seed, epoch)
    count = len(weights)
    if bool((weights == weights[0]).all()):
        order = torch.randperm(count, generator=generator)
    else:
        order = torch.multinomial(weights, count, replacement=True, generator=generator)
    size = min(batch_size, count)
    return [order[start : start + size].tolist() for start in range(0, count - size + 1, size)]


def _regions(
    workspace: Workspace, captions: pd.DataFrame, states: Sequence[str], side: int, wanted: set[str]
) -> dict[str, list[Region]]:
    masks = workspace.masks()
    masks = masks[masks["state"].isin(list(states)) & masks["image_id"].isin(wanted)]
    texts = captions[captions["level"] == "region"].set_index("mask_id")["text"].to_dict()
    found: dict[str, list[Region]] = {}
    for mask in rows_of(masks):
        if mask["mask_id"] in texts:
            inside = letterbox_mask(decode(mask["counts"], mask["height"], mask["width"]), side)
            if inside.any():
                region = Region(np.packbits(inside), str(texts[mask["mask_id"]]))
                found.setdefault(mask["image_id"], []).append(region)
    return found


def _draw_pair(
    example: Example, mixture: PairMixture, generator: torch.Generator
) -> tuple[NDArray[np.uint8] | None, str]:
    """A mask (None: all ones) and its caption; three draws whatever the outcome, so that batches stay comparable."""
    whole, prompt, choice = torch.rand(3, generator=generator).tolist()
    if example.regions and whole >= mixture.global_fraction:
        region = example.regions[int(choice * len(example.regions))]
        return region.bits, region.caption
    if example.prompts and prompt < mixture.prompt_fraction:
        return None, example.prompts[int(choice * len(example.prompts))]
    return None, example.caption


def _unpack(bits: NDArray[np.uint8] | None, side: int) -> NDArray[np.uint8]:
    if bits is None:
        return np.ones((side, side), np.uint8)
    return np.unpackbits(bits, count=side * side).reshape(side, side)
