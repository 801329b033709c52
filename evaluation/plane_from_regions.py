"""A plane decision from the whole frame and from regions found without labels.

The score of a plane is its cosine with the whole frame, plus a weight times the evidence of the
regions: how well they fit the structures that the plane shows. The weight is chosen on validation
frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.statistics.metrics import SCORE_DECIMALS, top_k_accuracy

Reals = NDArray[np.floating]
Indices = NDArray[np.integer]
Rows = NDArray[np.bool_]

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
EVIDENCE = {
    "max": "the best cosine of any region with any structure of the plane",
    "mean": "the best cosine with a structure of the plane, averaged over the regions",
    "posterior": (
        "the log share of the plane's structures in a softmax over all structures, "
        "averaged over the regions"
    ),
}


@dataclass(frozen=True)
class RegionScores:
    """Cosines [frames, regions, structures] of the regions of each frame.

    Rows are NaN if a frame has fewer regions. `shows` [planes, structures] is true for the
    structures that a plane shows; `scale` is the model's logit scale.
    """

    cosines: Reals
    shows: Rows
    scale: float

    def of(self, planes: Indices) -> "RegionScores":
        """The same for a selection of planes."""
        return replace(self, shows=self.shows[planes])


@dataclass(frozen=True)
class Choice:
    """A weight of the evidence, and the macro Top-1 that it gives on validation frames."""

    weight: float
    top1_macro: float


def plane_evidence(regions: RegionScores, kind: str) -> NDArray[np.float64]:
    """The evidence [frames, planes] of a kind in EVIDENCE, in units of a cosine.

    A frame without regions has 0 for every plane, and a plane without structures has the mean of
    the other planes.
    """
    # [frames, regions, planes]
    per_plane = _posterior(regions) if kind == "posterior" else _best(regions)
    there = np.asarray(~np.isnan(regions.cosines).any(axis=2))
    if kind == "max":
        found = np.where(there[..., None], per_plane, -np.inf).max(axis=1, initial=-np.inf)
    else:
        total = np.where(there[..., None], per_plane, 0).sum(axis=1)
        found = total / np.maximum(there.sum(axis=1), 1)[:, None]
    found[~np.asarray(there.any(axis=1))] = 0
    known = np.asarray(regions.shows.any(axis=1))
    if known.any():
        found[:, ~known] = found[:, known].mean(axis=1, keepdims=True)
    return np.asarray(found, np.float64)


def plane_scores(whole: Reals, evidence: Reals, weight: float) -> NDArray[np.float64]:
    """Scores [frames, planes] of the whole frame and the evidence, rounded like cosines."""
    return np.asarray(np.round(whole + weight * evidence, SCORE_DECIMALS), np.float64)


def choose(
    whole: Reals,
    regions: RegionScores,
    truth: Indices,
    kind: str,
    weights: Sequence[float] = WEIGHTS,
) -> tuple[Choice, list[Choice]]:
    """The weight with the best macro Top-1 on validation frames, and all that were tried.

    `whole` [frames, planes], `truth` [frames]. The smallest weight wins a tie, so regions count
    only if they help.
    """
    evidence = plane_evidence(regions, kind)
    tried = [
        Choice(
            weight, top_k_accuracy(plane_scores(whole, evidence, weight), truth, 1)["top1_macro"]
        )
        for weight in weights
    ]
    return max(tried, key=lambda choice: (choice.top1_macro, -choice.weight)), tried


def _best(regions: RegionScores) -> NDArray[np.float64]:
    """The best cosine of each region with a structure of each plane [frames, regions, planes]."""
    found = [
        regions.cosines[..., shown].max(axis=2, initial=-np.inf)
        if shown.any()
        else np.zeros(regions.cosines.shape[:2])
        for shown in regions.shows
    ]
    return np.stack(found, axis=2).astype(np.float64)


def _posterior(regions: RegionScores) -> NDArray[np.float64]:
    """The log posterior [frames, regions, planes] of each plane's structures, over the scale."""
    logits = regions.scale * regions.cosines.astype(np.float64)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True, initial=-np.inf))
    shares = weights @ regions.shows.T / weights.sum(axis=2, keepdims=True)
    return np.asarray(np.log(np.maximum(shares, 1e-300)) / regions.scale)
