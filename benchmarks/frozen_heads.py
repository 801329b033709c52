"""Train projections on towers that stay as they came: a training takes seconds, not minutes.

The ImageNet trunk of `lite0` and MiniLM see each frame and each text once. Trained are the
projections of both, a small network on what lies under the mask (inner features, place and size),
the scale, and the attribute graph, by the loss, the pairs and the schedule of `sono train`. Frames
are not augmented and get no stray masks.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sono.curation.core.workspace import Workspace
from sono.training import inputs
from sono.training.config import TrainingConfig
from sono.training.data import pairs as drawing
from sono.training.data.frame_cache import mask_of
from sono.training.data.pairs import MaskedRegion, PairMixture, PairSet
from sono.training.data.sampling import seeded
from sono.training.data.schedule import Plan
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip
from sono.training.model.region_pool import masked_mean, place_of
from sono.training.model.spread_texts import spread_texts
from sono.training.model.text_towers import text_body
from sono.training.objectives.attributes import AttributeRows
from sono.training.objectives.facts import Facts, numbers
from sono.training.objectives.objective import Heads, Pairs, pairs_loss
from sono.training.start import new_model

SIDE, WIDTH = 96, 128


class Frozen:
    """What the frozen towers make of frames, masks and texts; texts are kept in a file."""

    def __init__(self, study: Workspace, template: str, pairs: PairSet, texts: Path) -> None:
        config = ModelConfig(
            name="lite0", image_size=SIDE, text_tower="minilm", text_bias=True, region_pool=True
        )
        self.model = new_model(TrainingConfig(), config).eval()
        spread_texts(self.model, inputs._names(study, template))
        self.file = texts
        self.texts: dict[str, Tensor] = torch.load(texts) if texts.exists() else {}
        self.row = {one.image_id: row for row, one in enumerate(pairs.examples)}
        self.frames, self.maps = _frames(self.model, pairs)
        everything = torch.ones(1, 1, SIDE, SIDE)
        self.whole = torch.cat([self.under(name, everything) for name in self.row])
        self.regions: dict[bytes, Tensor] = {}

    def under(self, image_id: str, mask: Tensor) -> Tensor:
        """What lies under a mask [1, 1, S, S] of a frame [1, d]."""
        row = self.row[image_id]
        means = [masked_mean(each[row : row + 1], mask) for each in self.maps]
        return torch.cat([*means, place_of(mask)], dim=1)

    def under_region(self, image_id: str, region: MaskedRegion | None) -> Tensor:
        """What lies under a mask, or in the whole frame [1, d]."""
        if region is None:
            row = self.row[image_id]
            return self.whole[row : row + 1]
        key = image_id.encode() + region.runs.tobytes()
        if key not in self.regions:
            mask = torch.from_numpy(mask_of(region.runs, SIDE)).float()[None, None]
            self.regions[key] = self.under(image_id, mask)
        return self.regions[key]

    def bodies(self, texts: Sequence[str]) -> Tensor:
        """MiniLM's vectors [n, 384]; each text is encoded once."""
        new = sorted({*texts} - self.texts.keys(), key=len)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            for start in range(0, len(new), 64):
                part = new[start : start + 64]
                body = text_body(self.model.towers.text, self.model.tokens(part)).float()
                self.texts |= dict(zip(part, body.clone(), strict=True))
        if len(new) > 64:
            torch.save(self.texts, self.file)
        return torch.stack([self.texts[text] for text in texts])


@torch.no_grad()
def _frames(model: MaskClip, pairs: PairSet) -> tuple[Tensor, list[Tensor]]:
    """The trunk's features [n, d] and its inner maps of three strides [n, c, h, w]."""
    bodies: list[Tensor] = []
    maps: list[list[Tensor]] = []
    pool = model.region_pool
    assert pool is not None
    for start in range(0, len(pairs), 32):
        frames = np.asarray(pairs.frames[list(range(start, min(start + 32, len(pairs))))])
        image = torch.from_numpy(frames).float()[:, None] / 255
        bodies.append(model.towers.visual.trunk(model.stem_input(image, torch.ones_like(image))))
        maps.append([each.float() for each in pool._seen if each is not None])
    return torch.cat(bodies).float(), [torch.cat(each) for each in zip(*maps, strict=True)]


class HeadModel(nn.Module):
    """The trained part: projections of frame and text, and a network on what is under the mask."""

    def __init__(self, frozen: Frozen, rows: Sequence[int]) -> None:
        """`rows` are the training frames, whose statistics scale the inputs."""
        super().__init__()
        self.frozen = frozen
        inner = frozen.whole.shape[1]
        self.frame = nn.Sequential(_scaled(frozen.frames[rows]), nn.Linear(1280, WIDTH))
        added = nn.Linear(256, WIDTH, bias=False)
        nn.init.zeros_(added.weight)
        scale = _scaled(frozen.whole[rows])
        self.region = nn.Sequential(scale, nn.Linear(inner, 256), nn.ReLU(), added)
        self.text = deepcopy(frozen.model.towers.text.proj)
        self.logit_scale = nn.Parameter(frozen.model.logit_scale.detach().clone())

    def encode_images(self, image_ids: Sequence[str], under: Sequence[Tensor]) -> Tensor:
        """Features [n, d] of frames, with what lies under their masks."""
        body = self.frozen.frames[[self.frozen.row[name] for name in image_ids]]
        features: Tensor = self.frame(body) + self.region(torch.cat(list(under)))
        return F.normalize(features, dim=-1)

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Features [n, d], not normalized, as those of a `MaskClip`."""
        features: Tensor = self.text(self.frozen.bodies(texts))
        return features

    def features(
        self, image_ids: Sequence[str], masks: Mapping[int, Tensor] | None = None
    ) -> np.ndarray:
        """Unit features [n, d] of frames, under masks [1, 1, S, S] by place or without."""
        with torch.no_grad():
            under = [
                self.frozen.under_region(name, None)
                if masks is None
                else self.frozen.under(name, masks[place])
                for place, name in enumerate(image_ids)
            ]
            return self.encode_images(image_ids, under).numpy()


def _scaled(values: Tensor) -> nn.BatchNorm1d:
    """Subtract the mean and divide by the standard deviation of `values` [n, d]."""
    norm = nn.BatchNorm1d(values.shape[1], affine=False)
    norm.running_mean, norm.running_var = values.mean(0), values.var(0) + 1e-4
    return norm


def train_heads(frozen: Frozen, pairs: PairSet, config: TrainingConfig) -> tuple[HeadModel, int]:
    """Train on all `pairs` by a recipe's settings; the model and its number of steps."""
    torch.manual_seed(config.seed)
    rows = [frozen.row[one.image_id] for one in pairs.examples]
    model, plan = HeadModel(frozen, rows).eval(), Plan(pairs, config)
    heads = Heads(config, pairs.table.rows, WIDTH)
    weights = [weight for name, weight in model.named_parameters() if name != "logit_scale"]
    groups: list[dict[str, object]] = [
        {"params": [*weights, *heads.parameters()], "factor": 1.0},
        {"params": [model.logit_scale], "factor": config.scale_rate, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    step = 0
    for epoch in range(config.epochs):
        for places, regional in plan.places(epoch):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(step) * group["factor"]
            mixture, generator = (
                PairMixture.at(step / plan.total, config),
                seeded(config.seed, step + 1),
            )
            drawn = _draw(pairs, places, regional, mixture, generator)
            names = [pairs.examples[row].image_id for row in places]
            attributes = pairs.table.of([pair.attributes for pair in drawn])
            loss = _loss(model, heads, _Drawn(names, drawn, attributes), config)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], config.clip_norm)
            optimizer.step()
            step += 1
    return model, step


class _Drawn(NamedTuple):
    """The pairs of a batch: ids of frames, regions with captions, and attributes."""

    image_ids: list[str]
    pairs: list[drawing._Pair]
    attributes: AttributeRows


def _draw(
    pairs: PairSet,
    rows: list[int],
    regional: list[bool] | None,
    mixture: PairMixture,
    generator: torch.Generator,
) -> list[drawing._Pair]:
    """A region or the whole frame for each of `rows`, as `draw_batch` draws it."""
    drawn: list[drawing._Pair] = []
    left: dict[int, list[MaskedRegion]] = {}
    for place, row in enumerate(rows):
        example, kind = pairs.examples[row], None if regional is None else regional[place]
        regions = (mixture.apart and left.get(row)) or list(example.regions)
        drawn.append(drawing._draw_pair(example, regions, mixture.of_kind(kind), generator))
        left[row] = [region for region in regions if region is not drawn[-1].region]
    return drawn


def _loss(model: HeadModel, heads: Heads, batch: _Drawn, config: TrainingConfig) -> Tensor:
    """The loss of a batch, as `sono train` computes it."""
    captions = [pair.caption for pair in batch.pairs]
    text = F.normalize(model.encode_texts(captions), dim=-1)
    facts = Facts.of(
        [pair.stated for pair in batch.pairs],
        [pair.true for pair in batch.pairs],
        [bool(pair.region) for pair in batch.pairs],
    )
    under = [
        model.frozen.under_region(name, pair.region)
        for name, pair in zip(batch.image_ids, batch.pairs, strict=True)
    ]
    image = model.encode_images(batch.image_ids, under)
    text = heads.graph(text, batch.attributes) if heads.graph else text
    pairs = Pairs(image, text, numbers(captions), batch.attributes, facts)
    return pairs_loss(pairs, model.logit_scale.exp(), torch.zeros(()), config)
