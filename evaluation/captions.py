"""Frames and regions with their captions: retrieval with its controls, and the feature space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.evaluation.modes import derangement
from sono.evaluation.region_control.regions import Regions
from sono.evaluation.statistics.bootstrap import Draws, Mean, Sample, clustered_intervals, micro
from sono.evaluation.statistics.metrics import Indices, Reals, alignment
from sono.evaluation.statistics.retrieval import (
    Retrieved,
    modality_gap,
    own_pair_ceiling,
    precision_by_chance,
    retrieval_by_chance,
    retrieve,
    uniformity,
)
from sono.evaluation.zero_shot import text_features
from sono.training.model.mask_clip import MaskClip

RETRIEVAL_KS = (1, 5, 10)


@dataclass(frozen=True)
class OwnCaptions:
    """The caption of each frame by image id, and of each mask by mask id."""

    frames: Mapping[str, str]
    masks: Mapping[str, str]


def own_captions(captions: pd.DataFrame, templates: Sequence[str]) -> OwnCaptions:
    """The captions that one of `templates`, names or ids of template sets, wrote."""
    table = captions[captions["template"].isin(list(templates))]
    whole, region = (table[table["level"] == level] for level in ("global", "region"))
    return OwnCaptions(
        dict(zip(whole["image_id"].astype(str), whole["text"].astype(str), strict=True)),
        dict(zip(region["mask_id"].astype(str), region["text"].astype(str), strict=True)),
    )


@dataclass(frozen=True)
class CaptionedFrames:
    """The evaluated frames: ids, unit features [n, d] without a mask, patients and planes [n]."""

    image_ids: Sequence[str]
    images: Reals
    clusters: Indices
    planes: Indices


@dataclass(frozen=True)
class CaptionResults:
    """The numbers, and the features [m, d] of the distinct captions of the frames."""

    metrics: dict[str, Any]
    texts: Reals


def caption_results(
    model: MaskClip, shown: CaptionedFrames, regions: Regions, captions: OwnCaptions, how: Draws
) -> CaptionResults:
    """Alignment of frames and captions, and retrieval between them with chance and controls.

    Equal captions are right for each other. The numbers are empty if no frame has a caption.
    """
    rows = [row for row, name in enumerate(shown.image_ids) if name in captions.frames]
    if not rows:
        return CaptionResults({}, np.zeros((0, shown.images.shape[1])))
    texts, own = np.unique(
        [captions.frames[shown.image_ids[row]] for row in rows], return_inverse=True
    )
    gallery = text_features(model, [str(text) for text in texts])
    images, clusters = shown.images[rows], shown.clusters[rows]
    others = _exchanged([shown.image_ids[row] for row in rows], how.seed)
    numbers, counts = np.arange(len(texts)), _counts(clusters, frames=np.arange(len(rows)))
    ways = {
        "image_to_text": (images, gallery, numbers),
        "text_to_image": (gallery[own], images, own),
    }
    retrieval: dict[str, Any] = {}
    for way, (queries, items, ids) in ways.items():
        for name, right in ((way, own), (f"{way}_exchanged", own[others])):
            retrieved = _search(queries, items, right, ids)
            retrieval[name] = _intervals(retrieved, clusters, how) | counts
        retrieval |= _bounds(way, own, ids, shown.planes[rows])
    measures = alignment(images, gallery[own], own) | {
        "uniformity_images": uniformity(images, how.seed),
        "uniformity_texts": uniformity(gallery, how.seed),
        "modality_gap": modality_gap(images, gallery[own]),
    }
    found: dict[str, Any] = {"distinct_captions": len(texts), **counts}
    found |= {name: round(value, 6) for name, value in measures.items() if not np.isnan(value)}
    of_regions, gains = _regions(model, regions, captions.masks, how)
    return CaptionResults(found | {"retrieval": retrieval | of_regions, "gains": gains}, gallery)


def _regions(
    model: MaskClip, regions: Regions, captions: Mapping[str, str], how: Draws
) -> tuple[dict[str, Any], dict[str, Any]]:
    """From a region to its caption: under its mask, without one, and under that of another.

    The other is the next structure of the frame. Also returns the paired differences.
    """
    named = [
        next((captions[name] for name in region.mask_ids if name in captions), None)
        for region in regions.masks
    ]
    rows = np.array([row for row, text in enumerate(named) if text is not None], np.int64)
    if regions.data is None or not len(rows):
        return {}, {}
    texts, own = np.unique([named[row] for row in rows], return_inverse=True)
    gallery = text_features(model, [str(text) for text in texts])
    data, numbers = regions.data, np.arange(len(texts))
    features = {name: data.features[name][rows] for name in ("own", "all_one")}
    features["other"] = features["own"][_next_of_frame(data.frame[rows])]
    several = _next_of_frame(data.frame[rows]) != np.arange(len(rows))
    clusters, retrieval, gains = data.cluster[rows], {}, {}
    found = {name: _search(each, gallery, own, numbers) for name, each in features.items()}
    for name, result in found.items():
        chosen = several if name == "other" else np.ones(len(rows), np.bool_)
        if not chosen.any():
            continue
        counts = {"masks": int(chosen.sum())}
        counts |= _counts(clusters[chosen], frames=data.frame[rows][chosen])
        key = "region_to_text" if name == "own" else f"region_to_text_{name}"
        retrieval[key] = _intervals(result, clusters, how, chosen) | counts
        if name != "own":
            gain = _intervals(found["own"], clusters, how, chosen, minus=result)
            gains[f"region_own_minus_{name}"] = gain | counts
    known = data.plane[rows] * len(data.structures) + data.structure[rows]
    return retrieval | _bounds("region_to_text", own, numbers, known), gains


def _counts(clusters: Indices, frames: Indices) -> dict[str, int]:
    return {"frames": len(np.unique(frames)), "clusters": len(np.unique(clusters))}


def _exchanged(image_ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """For each frame another one, whose caption it gets in the control; itself if it is alone."""
    place = {name: row for row, name in enumerate(image_ids)}
    donors = derangement(image_ids, seed)
    return np.array([place[donors.get(name, name)] for name in image_ids], np.int64)


def _next_of_frame(frames: Indices) -> NDArray[np.int64]:
    """For each mask the next one of its frame, after the last one the first; masks are sorted."""
    first = np.searchsorted(frames, frames)
    after = np.arange(1, len(frames) + 1)
    same = np.append(frames[1:] == frames[:-1], [False])
    return np.where(same, after, first)


def _search(queries: Reals, gallery: Reals, own: Indices, ids: Indices) -> Retrieved:
    return retrieve(queries, gallery, own, ids, RETRIEVAL_KS)


def _intervals(
    found: Retrieved,
    clusters: Indices,
    how: Draws,
    rows: NDArray[np.bool_] | None = None,
    minus: Retrieved | None = None,
) -> dict[str, Any]:
    """The share of hits at each k, and the mean average precision, or their differences."""
    values = _values(found) if minus is None else _values(found) - _values(minus)
    if rows is not None:
        values, clusters = values[rows], clusters[rows]
    numbers = np.unique(clusters, return_inverse=True)[1]
    sample = Sample(values, np.zeros(len(values), np.int64), numbers)
    names = [*(f"at_{k}" for k in RETRIEVAL_KS), "map"]
    statistics = {
        name: micro(column) if minus is None else Mean(column, by_class=False, kind="difference")
        for column, name in enumerate(names)
    }
    intervals = clustered_intervals(sample, statistics, how)
    return {name: interval.as_dict() for name, interval in intervals.items()}


def _values(found: Retrieved) -> NDArray[np.float64]:
    """Hits at each k and the precision [n, columns]."""
    return np.column_stack([*(found.hits[k] for k in RETRIEVAL_KS), found.precision]).astype(float)


def _bounds(way: str, own: Indices, ids: Indices, known: Indices) -> dict[str, Any]:
    """Chance; a model that knows the group `known` [n] alone; and one that cannot be better.

    The last is perfect, but equal captions count as wrong for each other.
    """
    chance = _by_chance(own, ids)
    groups = [np.flatnonzero(known == each) for each in np.unique(known)]
    informed = [_by_chance(own[rows], ids[np.isin(ids, own[rows])]) for rows in groups]
    sizes = [len(rows) / len(own) for rows in groups]
    rows = {
        f"{way}_by_chance": chance,
        f"{way}_known_group": {
            name: sum(size * each[name] for size, each in zip(sizes, informed, strict=True))
            for name in chance
        },
        f"{way}_own_pair": {f"at_{k}": own_pair_ceiling(own, own, k) for k in RETRIEVAL_KS},
    }
    return {
        name: {
            column: {"point": round(value, 6), "low": None, "high": None}
            for column, value in row.items()
        }
        for name, row in rows.items()
    }


def _by_chance(own: Indices, ids: Indices) -> dict[str, float]:
    """The hits and the precision in a random order of the items `ids` [m]."""
    hits = {f"at_{k}": retrieval_by_chance(own, ids, k) for k in RETRIEVAL_KS}
    return hits | {"map": precision_by_chance(own, ids)}
