"""Region control as pure functions: does the mask decide which structure the model names?

Features are unit vectors. A row of NaN in a condition means that the mask does not exist in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.statistics.bootstrap import (
    DIFFERENCE,
    NUMBER,
    Draws,
    Interval,
    Statistic,
    clustered_interval,
    macro,
    micro,
)
from sono.evaluation.statistics.metrics import cosines, predict

Reals = NDArray[np.floating]
Indices = NDArray[np.integer]
Rows = NDArray[np.bool_]

TRAINING = "training"  # the phrasing that training draws: the mean of its prompts
# Their meanings are in templates/reports/words.toml.
CONDITIONS = (
    "own",
    "all_one",
    "empty",
    "place_and_shape",
    "gray_frame",
    "box",
    "jittered_box",
    "moved",
)
UNMEASURED = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class RegionFeatures:
    """Features of the masks and of the texts that name them.

    `structure`, `plane`, `frame` and `cluster` [masks] are indices; a cluster is a patient.
    `candidates` [planes, structures] is true for the structures that compete in a plane. `features`
    [masks, d] are by condition, `texts` [structures, d] by phrasing, TRAINING first.
    """

    structures: tuple[str, ...]
    candidates: Rows
    structure: Indices
    plane: Indices
    frame: Indices
    cluster: Indices
    features: Mapping[str, Reals]
    texts: Mapping[str, Reals]

    @property
    def in_plane(self) -> Rows:
        """The candidates of each mask [masks, structures]: the structures of its plane."""
        return np.asarray(self.candidates[self.plane])

    @property
    def all_structures(self) -> Rows:
        """The candidates of each mask [masks, structures] when all structures compete."""
        return np.ones((len(self.structure), len(self.structures)), np.bool_)

    @property
    def contested(self) -> Rows:
        """The masks [masks] whose plane has more than one candidate."""
        return np.asarray(self.in_plane.sum(axis=1) > 1)

    def has(self, condition: str) -> Rows:
        """The masks [masks] that exist in `condition`; none where it was not computed."""
        if condition not in self.features:
            return np.zeros(len(self.structure), np.bool_)
        return np.asarray(~np.isnan(self.features[condition]).any(axis=1))


def counts_of(data: RegionFeatures, rows: Rows) -> dict[str, int]:
    """How many masks are among `rows` [masks], and of how many frames and patients."""
    counts = {"frames": data.frame, "clusters": data.cluster}
    return {"masks": int(rows.sum())} | {
        name: len(np.unique(each[rows])) for name, each in counts.items()
    }


def name_regions(features: Reals, texts: Reals, candidates: Rows) -> NDArray[np.int64]:
    """The structure named for each row of `features` [n, d] by `texts` [structures, d].

    The result is UNDECIDED for a tie or NaN. Only structures that `candidates` [n, structures]
    marks compete.
    """
    return predict(np.where(candidates, cosines(features, texts), -np.inf))


def region_ranks(
    features: Reals, texts: Reals, truth: Indices, candidates: Rows
) -> NDArray[np.int64]:
    """The rank [n] of the structure `truth` [n] among the candidates; 1 is best.

    Ties count against it.
    """
    scores = np.where(candidates, cosines(features, texts), -np.inf)
    own = scores[np.arange(len(truth)), truth]
    return np.asarray((scores >= own[:, None]).sum(axis=1), np.int64)


def naming_hits(
    data: RegionFeatures, condition: str = "own", phrasing: str = TRAINING, all_of: bool = False
) -> Rows:
    """Whether each mask [masks] gets its own structure's name, in its plane or among all.

    A tie is wrong.
    """
    candidates = data.all_structures if all_of else data.in_plane
    return np.asarray(
        name_regions(data.features[condition], data.texts[phrasing], candidates) == data.structure
    )


def naming_accuracy(
    data: RegionFeatures, condition: str = "own", phrasing: str = TRAINING, all_of: bool = False
) -> float:
    """Top-1 macro over structures of `naming_hits`, without interval.

    In the plane, masks are left out if their plane has one candidate. The result is NaN if no mask
    can be named.
    """
    rows = data.has(condition) & (data.contested | all_of)
    return macro_mean(naming_hits(data, condition, phrasing, all_of)[rows], data.structure[rows])


def macro_mean(values: NDArray[np.generic], classes: Indices) -> float:
    """The mean of `values` [n] within each class, averaged over the classes present.

    The result is NaN for no values.
    """
    if not len(values):
        return float("nan")
    return float(
        np.mean([values[classes == each].mean(dtype=np.float64) for each in np.unique(classes)])
    )


def chance_of_naming(data: RegionFeatures) -> float:
    """What a guess among the structures of the plane gives: Top-1 macro over structures."""
    rows = data.contested
    return macro_mean(1 / data.in_plane.sum(axis=1)[rows], data.structure[rows])


def other_masks(frame: Indices, structure: Indices) -> NDArray[np.int64]:
    """All ordered pairs [pairs, 2] of masks of one frame that show different structures."""
    order = np.argsort(frame, kind="stable")
    pairs = []
    for rows in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
        first, second = np.nonzero(structure[rows][:, None] != structure[rows][None, :])
        pairs.append(np.column_stack([rows[first], rows[second]]))
    return np.concatenate(pairs).astype(np.int64) if pairs else np.zeros((0, 2), np.int64)


def follow_shares(data: RegionFeatures, phrasing: str = TRAINING) -> Reals:
    """How often the answer follows the mask [masks].

    Of the other structures masked in the frame, the share for which their mask gives their name and
    the mask's own does not. A model that ignores the mask scores 0. The result is NaN for a mask
    that is the only structure of its frame.
    """
    answers = name_regions(data.features["own"], data.texts[phrasing], data.in_plane)
    pairs = other_masks(data.frame, data.structure)
    mine, other = pairs.T
    moved = (answers[other] == data.structure[other]) & (answers[mine] != data.structure[other])
    return _mean_of_pairs(moved, mine, len(data.structure))


def follow_rate(data: RegionFeatures) -> float:
    """The mean of `follow_shares` over the masks that have one, without interval.

    The result is NaN if none has one.
    """
    return _mean(follow_shares(data))


def mask_cosines(data: RegionFeatures) -> Reals:
    """Mean cosine [masks] of the features under a mask and under the other masks of its frame.

    The others are those of other structures. 1.0 means that the mask changes nothing; NaN for a
    mask that is the only structure of its frame.
    """
    mine, other = other_masks(data.frame, data.structure).T
    own = data.features["own"].astype(np.float64)
    return _mean_of_pairs((own[mine] * own[other]).sum(axis=1), mine, len(data.structure))


def mean_mask_cosine(data: RegionFeatures) -> float:
    """The mean of `mask_cosines` over the masks that have one, without interval.

    The result is NaN if none has one.
    """
    return _mean(mask_cosines(data))


def all_one_cosines(data: RegionFeatures) -> Reals:
    """Cosine [masks] of the features under the own mask and under the whole square."""
    return np.asarray(
        (data.features["own"].astype(np.float64) * data.features["all_one"]).sum(axis=1)
    )


def naming_interval(
    data: RegionFeatures,
    condition: str,
    phrasing: str = TRAINING,
    all_of: bool = False,
    how: Draws | None = None,
) -> Interval:
    """`naming_accuracy` with its interval over patients."""
    if condition not in data.features:
        return UNMEASURED
    rows = data.has(condition) & (data.contested | all_of)
    return interval_over(data, naming_hits(data, condition, phrasing, all_of), rows, macro(), how)


def naming_difference(
    data: RegionFeatures, first: str, second: str, how: Draws | None = None
) -> Interval:
    """Naming in the plane under condition `first` minus `second`, paired by mask, over patients."""
    rows = data.has(first) & data.has(second) & data.contested
    if not rows.any():
        return UNMEASURED
    gain = naming_hits(data, first).astype(np.float64) - naming_hits(data, second)
    return interval_over(data, gain, rows, DIFFERENCE, how)


def unseen_interval(
    data: RegionFeatures, all_of: bool = False, how: Draws | None = None
) -> Interval:
    """Naming with the phrasings other than TRAINING, averaged; NaN where there is none."""
    unseen = [naming_hits(data, "own", name, all_of) for name in data.texts if name != TRAINING]
    if not unseen:
        return UNMEASURED
    rows = data.has("own") & (data.contested | all_of)
    return interval_over(data, np.mean(unseen, axis=0), rows, macro(), how)


def mean_interval(
    data: RegionFeatures, values: Reals, how: Draws | None = None, statistic: Statistic = NUMBER
) -> Interval:
    """The mean of `values` [masks] that are not NaN, with its interval over patients."""
    return interval_over(data, values, np.asarray(~np.isnan(values)), statistic, how)


def follow_interval(data: RegionFeatures, how: Draws | None = None) -> Interval:
    """`follow_rate` with its interval over patients."""
    return mean_interval(data, follow_shares(data), how, micro())


def interval_over(
    data: RegionFeatures,
    values: NDArray[np.generic],
    rows: Rows,
    statistic: Statistic,
    how: Draws | None = None,
) -> Interval:
    """`statistic` of `values` [masks] on the masks `rows`, with its interval.

    Classes are structures, clusters are patients; NaN for no rows.
    """
    if not rows.any():
        return UNMEASURED
    classes, clusters = (
        np.unique(each[rows], return_inverse=True)[1] for each in (data.structure, data.cluster)
    )
    return clustered_interval(values[rows].astype(np.float64), classes, clusters, statistic, how)


def _mean_of_pairs(values: NDArray[np.generic], mine: Indices, masks: int) -> Reals:
    """The mean [masks] of the `values` [pairs] whose first mask is `mine` [pairs].

    The result is NaN for a mask without pairs.
    """
    sums, counts = np.bincount(mine, values, masks), np.bincount(mine, minlength=masks)
    means: NDArray[np.float64] = np.divide(
        sums, counts, out=np.full(masks, np.nan), where=counts > 0
    )
    return means


def _mean(values: Reals) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class CueConflict:
    """Frames of one plane under the mask of a structure that only other planes show.

    `features` [frames, d]; `frame_plane`, `mask_plane` and `cluster` [frames] are indices; `texts`
    [planes, d] are of all planes present.
    """

    features: Reals
    frame_plane: Indices
    mask_plane: Indices
    cluster: Indices
    texts: Reals


def conflict_shares(conflict: CueConflict, how: Draws | None = None) -> dict[str, Interval]:
    """How often the plane answer follows the frame, the mask or neither, over patients.

    A tie follows neither.
    """
    if not len(conflict.features):
        return {}
    answers = predict(cosines(conflict.features, conflict.texts))
    frame, mask = answers == conflict.frame_plane, answers == conflict.mask_plane
    classes = np.zeros(len(answers), np.int64)
    clusters = np.unique(conflict.cluster, return_inverse=True)[1]
    return {
        name: clustered_interval(hits, classes, clusters, micro(), how)
        for name, hits in {"frame": frame, "mask": mask, "neither": ~frame & ~mask}.items()
    }
