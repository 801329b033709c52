"""Where in a frame the similarity to a text comes from: by occlusion, and by cells of the tower.

The occlusion map is a measurement: how much the cosine falls if a part of the frame is blurred. The
cell map is a sum of the model: what each cell of the tower adds to the cosine. Under a mask its
inner features are averaged inside the mask, so there it must concentrate by construction.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.timm_model import TimmModel
from torch.nn.functional import normalize

from sono.curation.core.arrays import Mask
from sono.evaluation.zero_shot import Features, masked_features
from sono.training.model.mask_clip import MaskClip

WINDOWS = 8  # of a side; they overlap by half
AT_ONCE = 64  # occluded frames in one pass
Map = NDArray[np.float64]


def occlusion_map(model: MaskClip, square: NDArray[np.uint8], mask: Mask, text: Features) -> Map:
    """How much the cosine with `text` [d] falls [S, S] where a frame [S, S] is blurred.

    A pixel has the mean of the windows over it. The mask stays as it is.
    """
    side = len(square)
    window, step = max(2, side // WINDOWS), max(1, side // (2 * WINDOWS))
    starts = sorted({*range(0, side - window, step), side - window})
    blurred = cv2.GaussianBlur(square, (0, 0), window)
    places = [
        (slice(top, top + window), slice(left, left + window)) for top in starts for left in starts
    ]
    whole = float(masked_features(model, square[None], mask[None])[0] @ text)
    fall, times = np.zeros(square.shape), np.zeros(square.shape)
    for start in range(0, len(places), AT_ONCE):
        part = places[start : start + AT_ONCE]
        frames = np.stack([square] * len(part))
        for frame, place in zip(frames, part, strict=True):
            frame[place] = blurred[place]
        features = masked_features(model, frames, np.stack([mask] * len(part)))
        for cosine, place in zip(features @ text, part, strict=True):
            fall[place] += whole - float(cosine)
            times[place] += 1
    return fall / times


@torch.no_grad()
def cell_map(model: MaskClip, square: NDArray[np.uint8], mask: Mask, text: Features) -> Map | None:
    """What each cell of a convolutional tower adds to the cosine with `text` [d], as [S, S].

    Its sum is the cosine, without what the place of the mask adds. The result is None for a tower
    whose output is not a mean over cells.
    """
    visual = model.towers.visual
    if not isinstance(visual, TimmModel) or [*visual.head._modules] != ["drop", "proj"]:
        return None
    device, side = model.logit_scale.device, len(square)
    image = torch.from_numpy(square).to(device).float().div(255)[None, None]
    inside = torch.from_numpy(mask).to(device).float()[None, None]
    direction = torch.from_numpy(text).to(device)
    length = float(model.encode_image(image, inside).norm())
    cells = visual.trunk.forward_features(model.stem_input(image, inside))
    if cells.ndim != 4:
        return None
    projected = visual.head(cells.permute(0, 2, 3, 1)) @ direction
    levels = [projected / projected[0].numel()]
    if model.region_pool is not None:
        levels += model.region_pool.by_cell(inside, direction)
    return sum((_spread(level[0].cpu().numpy(), side) for level in levels), np.zeros(1)) / length


def positive_share(found: Map, region: Mask) -> float:
    """The share of the positive part of a map [S, S] that is inside a region; NaN if there is none.

    A map that ignores the region has about the share of the region's area.
    """
    positive = np.maximum(found, 0)
    total = float(positive.sum())
    return float(positive[region].sum()) / total if total > 0 else float("nan")


def unit_text(model: MaskClip, texts: list[str]) -> Features:
    """The unit feature [d] of the mean of some phrasings."""
    with torch.inference_mode():
        mean = normalize(model.encode_texts(texts), dim=-1).mean(dim=0)
    return np.asarray(normalize(mean, dim=0).cpu().numpy(), np.float32)


def _spread(cells: NDArray[np.float32], side: int) -> Map:
    """Cells [h, w] as pixels [side, side] of the same sum."""
    pixels = cv2.resize(cells, (side, side), interpolation=cv2.INTER_NEAREST)
    return np.asarray(pixels, np.float64) * cells.size / side**2
