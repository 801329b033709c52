"""Can a center, or a machine, be read from the features, and do they come before the plane?

Both questions are asked on draws with as many frames of each site in every plane, since a site
with more hearts would be recognized by its hearts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.probes.classes import Labeled
from sono.evaluation.probes.classify import (
    Labels,
    Reals,
    linear_probe,
    macro_accuracy,
    permuted_accuracies,
)
from sono.evaluation.probes.parts import Part, Rows
from sono.evaluation.statistics.bootstrap import Draws, Sample, clustered_intervals
from sono.evaluation.statistics.bootstrap import Reals as Sums
from sono.evaluation.statistics.metrics import unit

DRAWS = 5
PERMUTATIONS = 40  # of the sites of whole patients, over all draws
NEIGHBORS = 10


@dataclass(frozen=True)
class Sites:
    """Frames of several sites, with the number of their plane [n]."""

    data: Labeled  # its classes are the sites
    planes: Labels


def balanced_rows(rows: Rows, sites: Labels, planes: Labels, rng: np.random.Generator) -> Rows:
    """A random choice of `rows` with equal numbers of every site in each plane.

    Planes that a site lacks are left out.
    """
    known, kept = np.unique(sites[rows]), []
    for plane in np.unique(planes[rows]):
        inside = rng.permutation(rows[planes[rows] == plane])
        own = [inside[sites[inside] == site] for site in known]
        size = min(len(each) for each in own)
        kept += [each[:size] for each in own]
    return np.sort(np.concatenate(kept)) if kept else rows[:0]


def site_probe(found: Sites, features: Reals, seed: int) -> dict[str, Any]:
    """Macro accuracy of a linear probe of the site on balanced draws, and that of permutations.

    A permutation gives the site of each patient to another one. `p_value` is the share of
    permutations that are as accurate. Empty if no draw has frames of two sites to fit and test on.
    """
    labels, real, chance, sizes = found.data.labels, [], [], []
    everything = np.arange(len(labels))
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, draw])
        kept = np.zeros(len(labels), np.bool_)
        kept[balanced_rows(everything, labels, found.planes, rng)] = True
        for part in (part.within(kept) for part in found.data.parts):
            if not _has_sites(part, labels):
                continue
            fit = linear_probe(features, labels, part.train, part.val)
            real.append(macro_accuracy(fit.answer(features[part.test]), labels[part.test]))
            sizes.append(len(part.test))
            each = -(-PERMUTATIONS // (DRAWS * len(found.data.parts)))
            others = _permutations(part, found, each, rng)
            chance += permuted_accuracies(features, others, part.pool, part.test, fit.chosen)
    if not real:
        return {}
    mean = float(np.mean(real))
    return {
        "accuracy": mean,
        "sd": float(np.std(real)),
        "permuted": float(np.mean(chance)),
        "permuted_high": float(np.quantile(chance, 0.95)),
        "p_value": (1 + int(np.sum(np.array(chance) >= mean))) / (1 + len(chance)),
        "chance": 1 / len(found.data.names),
        "fits": len(real),
        "permutations": len(chance),
        "images": round(float(np.mean(sizes))),
    }


def robustness(found: Sites, features: Reals, seed: int, how: Draws) -> dict[str, Any]:
    """The robustness index of balanced draws (PathoROB, Nature Communications 2026).

    Among the nearest neighbors of each frame that are of other patients, it is the number with the
    same plane from another site, over that number plus those of another plane from the same site.
    1: the plane alone decides; `by_chance` is that of neighbors at random.
    """
    rows = np.arange(len(found.planes))
    values, classes, clusters, chances = [], [], [], []
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, draw])
        drawn = balanced_rows(rows, found.data.labels, found.planes, rng)
        counts, chance = neighbor_counts(
            features[drawn],
            found.data.labels[drawn],
            found.planes[drawn],
            found.data.clusters[drawn],
        )
        values.append(counts)
        classes.append(found.planes[drawn])
        clusters.append(found.data.clusters[drawn])
        chances.append(chance)
    counts = np.concatenate(values)
    if not counts.sum():
        return {}
    own = np.unique(np.concatenate(clusters), return_inverse=True)[1]
    sample = Sample(counts, np.concatenate(classes), own)
    interval = clustered_intervals(sample, {"index": _ratio}, how)["index"]
    total = np.sum(chances, axis=0)
    return {
        "index": interval.as_dict(),
        "by_chance": float(total[0] / max(total.sum(), 1e-12)),
        "neighbors": NEIGHBORS,
        "images": round(len(counts) / DRAWS),
        "clusters": int(own.max()) + 1,
        "planes": len(np.unique(np.concatenate(classes))),
    }


def neighbor_counts(
    features: Reals, sites: Labels, planes: Labels, clusters: Labels, k: int = NEIGHBORS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each frame [n, 2] its nearest neighbors of other patients that are confusing.

    They are of its plane from another site, or of another plane from its site. Also the expected
    numbers of both [2] for neighbors at random.
    """
    similar = unit(features) @ unit(features).T
    other = clusters[:, None] != clusters[None, :]
    similar[~other] = -np.inf
    same_plane = planes[:, None] == planes[None, :]
    same_site = sites[:, None] == sites[None, :]
    kinds = np.stack([same_plane & ~same_site, ~same_plane & same_site]) & other
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    counts = np.stack([np.take_along_axis(kind, nearest, 1).sum(axis=1) for kind in kinds], axis=1)
    shares = kinds.sum(axis=2) / np.maximum(other.sum(axis=1), 1)
    return counts.astype(np.float64), np.asarray(shares.sum(axis=1), np.float64)


def _has_sites(part: Part, labels: Labels) -> bool:
    """Whether there are two sites to fit and to test on, and something to choose on."""
    several = all(len(np.unique(labels[rows])) > 1 for rows in (part.train, part.test))
    return several and len(part.val) > 0


def _permutations(
    drawn: Part, found: Sites, count: int, rng: np.random.Generator
) -> Iterator[Labels]:
    """The sites of other patients [n], who keep their frames."""
    rows = np.concatenate([drawn.pool, drawn.test])
    _, first, own = np.unique(found.data.clusters[rows], return_index=True, return_inverse=True)
    for _ in range(count):
        labels = found.data.labels.copy()
        labels[rows] = rng.permutation(labels[rows][first])[own]
        yield labels


def _ratio(sums: Sums, counts: Sums) -> Sums:
    both = sums[..., :2].sum(axis=-2)
    return np.asarray(both[..., 0] / np.maximum(both.sum(axis=-1), 1e-12))
