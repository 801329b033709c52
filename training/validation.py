"""Zero-shot classification during training, and the score that picks the best epoch."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sono.training.config import TrainingConfig
from sono.training.data.frame_cache import mask_of
from sono.training.data.pairs import MaskedRegion, PairMixture, PairSet, draw_batch
from sono.training.data.sampling import epoch_rows, seeded
from sono.training.model.class_embeddings import class_embeddings
from sono.training.model.mask_clip import MaskClip
from sono.training.runtime.distributed import single_process
from sono.training.step import batch_loss


@torch.no_grad()
def image_features(
    model: MaskClip, frames: NDArray[np.uint8], masks: NDArray[np.bool_] | None = None
) -> Tensor:
    """Unit features [n, d] of square frames [n, S, S] under masks [n, S, S] (None: all ones)."""
    device = model.logit_scale.device
    image = torch.from_numpy(frames).to(device).float().div_(255)[:, None]
    mask = (
        torch.ones_like(image)
        if masks is None
        else torch.from_numpy(masks).to(device).float()[:, None]
    )
    return F.normalize(model.encode_image(image, mask), dim=-1)


def plane_accuracy(model: MaskClip, pairs: PairSet, batch_size: int = 64) -> float | None:
    """Macro Top-1 over the planes of `pairs`, whole frames without masks.

    The result is None for fewer than two planes.
    """
    rows = [row for row, example in enumerate(pairs.examples) if example.prompts]
    planes = sorted({str(pairs.examples[row].plane) for row in rows})
    if len(planes) < 2:
        return None
    prompts = {pairs.examples[row].plane: pairs.examples[row].prompts for row in rows}
    classes = class_embeddings(model, [prompts[plane] for plane in planes])
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    predicted = torch.cat(
        [(image_features(model, pairs.frames[batch]) @ classes.T).argmax(1) for batch in batches]
    )
    truth = np.array([planes.index(str(pairs.examples[row].plane)) for row in rows])
    hit = predicted.cpu().numpy() == truth
    return float(np.mean([hit[truth == label].mean() for label in range(len(planes))]))


def naming_accuracy(model: MaskClip, pairs: PairSet, batch_size: int = 64) -> float | None:
    """Macro Top-1 over structures of naming a region among the structures of its plane.

    The result is None if no plane has two structures with masks. The text of a structure is the
    mean of its short phrasings.
    """
    asked = _asked_regions(pairs)
    if not asked:
        return None
    prompts = {region.structure: region.prompts for _, region, _ in asked}
    names = sorted(prompts)
    classes = class_embeddings(model, [prompts[name] for name in names])
    allowed = torch.tensor([[name in candidates for name in names] for _, _, candidates in asked])
    hits: dict[str, list[bool]] = {name: [] for name in names}
    for start in range(0, len(asked), batch_size):
        part = asked[start : start + batch_size]
        masks = np.stack([mask_of(region.runs, pairs.size) for _, region, _ in part])
        scores = image_features(model, pairs.frames[[row for row, _, _ in part]], masks) @ classes.T
        named = scores.cpu().masked_fill(~allowed[start : start + len(part)], -torch.inf).argmax(1)
        for (_, region, _), answer in zip(part, named.tolist(), strict=True):
            hits[region.structure].append(names[answer] == region.structure)
    return float(np.mean([np.mean(found) for found in hits.values()]))


def _asked_regions(pairs: PairSet) -> list[tuple[int, MaskedRegion, set[str]]]:
    """Row, region and candidates of every region with at least two candidates.

    The candidates are the structures with prompts in its plane.
    """
    known: dict[str, set[str]] = {}
    for example in pairs.examples:
        found = {region.structure for region in example.regions if region.prompts}
        known.setdefault(str(example.plane), set()).update(found)
    return [
        (row, region, known[str(example.plane)])
        for row, example in enumerate(pairs.examples)
        for region in example.regions
        if region.prompts and len(known[str(example.plane)]) > 1
    ]


@torch.no_grad()
def validate(
    model: MaskClip, pairs: PairSet, config: TrainingConfig, epoch: int
) -> dict[str, float]:
    """Validation loss without augmentation, and macro Top-1 of planes and of naming regions.

    The draws are fixed. The result is empty if no validation is due in this epoch; planes and
    naming are missing if the data cannot show them. Every process computes all of it.
    """
    due = (epoch + 1) % config.validate_every == 0 or epoch + 1 == config.epochs
    if len(pairs) < 2 or not due:  # one pair alone is always right
        return {}
    model.eval()
    mixture = PairMixture(
        config.global_fraction, config.prompt_fraction, None, region_prompts=config.region_prompts
    )
    batches = epoch_rows(torch.ones(len(pairs)), config.batch_size, config.seed, 0)
    drawn = (
        draw_batch(pairs, rows, mixture, seeded(config.seed, number + 1))
        for number, rows in enumerate(batches)
    )
    # a compiled tower would be compiled once more, for sizes that are met once an epoch
    with single_process(), torch.compiler.set_stance("force_eager"):
        losses = [float(batch_loss(model, batch, config)) for batch in drawn]
        found = {
            "val_top1_macro": plane_accuracy(model, pairs),
            "val_naming_macro": naming_accuracy(model, pairs),
        }
    scores = {name: value for name, value in found.items() if value is not None}
    return {"val_loss": sum(losses) / len(losses), **scores}


def score_of(scores: dict[str, float]) -> float | None:
    """The score that picks the best epoch: the mean of plane and naming Top-1.

    If only one of them is known, that one; if none, minus the loss; None without validation.
    """
    found = [scores[name] for name in ("val_top1_macro", "val_naming_macro") if name in scores]
    if found:
        return sum(found) / len(found)
    return -scores["val_loss"] if "val_loss" in scores else None
