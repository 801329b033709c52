"""A light decoder of frozen maps of an image tower: one weight per channel and structure."""

from contextlib import ExitStack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sono.annotation.segmenter.examples import Examples
from sono.annotation.segmenter.fit import masked_loss
from sono.curation.core.console import progress
from sono.curation.core.errors import SonoError
from sono.evaluation.probes.parts import Part, Rows
from sono.training.model.mask_clip import MaskClip
from sono.training.model.region_pool import as_map, pooled_blocks
from sono.training.validation import image_features

STEPS, BATCH, RATE = 400, 16, 0.02
LOOKS = 10  # at the validation frames; the best look is kept
SEED = 0

Maps = list[Tensor]  # of each block [n, channels, h, w], half precision


def frozen_maps(model: MaskClip, squares: NDArray[np.uint8], batch_size: int) -> Maps:
    """The maps of the blocks that a mask pools, of frames [n, S, S] without a mask.

    Raises SonoError for a tower without such blocks.
    """
    visual = getattr(getattr(model, "towers", None), "visual", None)
    blocks = {} if visual is None else pooled_blocks(visual)
    if visual is None or not blocks:
        raise SonoError(
            f"the image tower {type(visual).__name__} has no known maps, which masks are read "
            "from; choose an EfficientNet, a ResNet or a vision transformer"
        )
    seen: dict[str, list[Tensor]] = {name: [] for name in blocks}
    with ExitStack() as hooks, progress("encoding frames", len(squares)) as advance:
        for name in blocks:
            keep = seen[name]
            hook = visual.get_submodule(name).register_forward_hook(
                lambda module, given, found, keep=keep: keep.append(as_map(found).half().cpu())
            )
            hooks.callback(hook.remove)
        for start in range(0, len(squares), batch_size):
            part = squares[start : start + batch_size]
            image_features(model, part)
            advance(len(part))
    return [torch.cat(each) for each in seen.values()]


class LinearDecoder(nn.Module):
    """Logits of structures from normalized maps: a 1 x 1 convolution of each, enlarged and added.

    This is a linear classifier of every pixel's channels in all maps.
    """

    def __init__(self, maps: Maps, structures: int) -> None:
        """`maps` are those of the frames to fit on, for the mean and deviation of channels."""
        super().__init__()
        self.norms = nn.ModuleList()
        self.weights = nn.ModuleList()
        for each in maps:
            norm = nn.BatchNorm2d(each.shape[1], affine=False)
            whole = each.float()
            norm.running_mean = whole.mean((0, 2, 3))
            norm.running_var = whole.var((0, 2, 3)) + 1e-6
            self.norms.append(norm)
            self.weights.append(nn.Conv2d(each.shape[1], structures, 1))
        self.eval()  # the statistics stay

    def forward(self, maps: Maps) -> Tensor:
        """Logits [n, structures, h, w] at the size of the finest map."""
        size = max((each.shape[-2:] for each in maps), key=lambda shape: shape[0])
        parts = [
            F.interpolate(weight(norm(each.float())), size, mode="bilinear", align_corners=False)
            for norm, weight, each in zip(self.norms, self.weights, maps, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)


def fit_decoder(maps: Maps, examples: Examples, part: Part) -> LinearDecoder:
    """Fit on the training frames of `part`; its validation frames choose how long."""
    targets = small_masks(examples, max(each.shape[-1] for each in maps))
    known, drawn = (torch.from_numpy(each).float() for each in (examples.known, examples.drawn))
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        decoder = LinearDecoder(rows_of(maps, part.train), examples.known.shape[1])

    def loss_of(rows: Rows) -> Tensor:
        logits = decoder(rows_of(maps, rows))
        return masked_loss(logits, targets[rows].float(), known[rows], drawn[rows])

    adam = torch.optim.Adam(decoder.parameters(), lr=RATE)
    rng = np.random.default_rng(SEED)
    best, kept = np.inf, decoder.state_dict()
    for step in range(1, STEPS + 1):
        loss = loss_of(rng.choice(part.train, min(BATCH, len(part.train)), replace=False))
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % (STEPS // LOOKS) == 0:
            with torch.no_grad():
                found = float(loss_of(part.val))
            if found < best:
                best = found
                kept = {name: value.clone() for name, value in decoder.state_dict().items()}
    decoder.load_state_dict(kept)
    return decoder


def small_masks(examples: Examples, side: int) -> Tensor:
    """The share of each cell that a mask covers [n, structures, side, side], in half precision."""
    parts = []
    for row in range(len(examples)):
        masks = torch.from_numpy(examples.masks_of(np.array([row])).astype(np.float32))
        parts.append(F.interpolate(masks, (side, side), mode="area").half())
    return torch.cat(parts)


def rows_of(maps: Maps, rows: Rows) -> Maps:
    """The maps of some frames."""
    return [each[torch.from_numpy(np.asarray(rows))] for each in maps]


def mean_masks(examples: Examples, rows: Rows) -> NDArray[np.float32]:
    """The mean mask [structures, S, S] of the frames that have one: the place alone, no pixel."""
    side = examples.frames.shape[1]
    total = np.zeros((examples.known.shape[1], side, side), np.float32)
    for row in rows:
        total += examples.masks_of(np.array([row]))[0]
    counts = examples.drawn[rows].sum(axis=0)
    return np.asarray(total / np.maximum(counts, 1)[:, None, None], np.float32)
