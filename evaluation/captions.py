"""Similarity of each frame and its own caption: alignment and retrieval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sono.evaluation.statistics.metrics import Reals, alignment, recall_at_k, retrieval_by_chance
from sono.evaluation.zero_shot import text_features
from sono.training.model.mask_clip import MaskClip

RETRIEVAL_KS = (1, 5, 10)


def global_captions(
    captions: pd.DataFrame, image_ids: Sequence[str], templates: Sequence[str]
) -> dict[str, str]:
    """The global caption of each frame by image id, if one of `templates` wrote it.

    `templates` are names or ids of template sets.
    """
    own = captions["template"].isin(list(templates)) & (captions["level"] == "global")
    table = captions[own & captions["image_id"].isin(list(image_ids))]
    return {str(row.image_id): str(row.text) for row in table.itertuples()}


def caption_metrics(
    model: MaskClip, images: Reals, image_ids: Sequence[str], captions: Mapping[str, str]
) -> dict[str, float]:
    """Alignment and retrieval of `images` [n, d] and their captions, with chance levels.

    Equal captions are one gallery entry, so a copy of its caption cannot cost a frame its hit. The
    result is empty if no frame has a caption.
    """
    rows = [number for number, image_id in enumerate(image_ids) if image_id in captions]
    if not rows:
        return {}
    texts, own = np.unique([captions[image_ids[row]] for row in rows], return_inverse=True)
    gallery = text_features(model, [str(text) for text in texts])
    shown, numbers = images[rows], np.arange(len(texts))
    found: dict[str, float] = {"frames": len(rows), "distinct_captions": len(texts)}
    found |= alignment(shown, gallery[own], own)
    for k in RETRIEVAL_KS:
        found[f"image_to_text_at_{k}"] = recall_at_k(shown, gallery, own, numbers, k)
        found[f"image_to_text_at_{k}_by_chance"] = retrieval_by_chance(own, numbers, k)
        found[f"text_to_image_at_{k}"] = recall_at_k(gallery, shown, numbers, own, k)
        found[f"text_to_image_at_{k}_by_chance"] = retrieval_by_chance(numbers, own, k)
    return {name: round(float(value), 6) for name, value in found.items() if not np.isnan(value)}
