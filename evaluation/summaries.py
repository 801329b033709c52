"""From scores to numbers: metrics with intervals, differences of modes, the verdict on masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.statistics.bootstrap import (
    Draws,
    Interval,
    Sample,
    Statistic,
    clustered_interval,
    clustered_intervals,
    macro,
    micro,
    paired_difference,
)
from sono.evaluation.statistics.metrics import (
    UNDECIDED,
    confusion,
    constant_guess,
    macro_f1,
    majority_class,
    predict,
    top_k_hits,
    training_counts,
)

Reals = NDArray[np.floating]
Rows = NDArray[np.bool_]

TOP5_ABOVE = 8  # candidates

# Pairs compared by macro Top-1, and the question of each pair.
PAIRS = {
    ("proposed", "all_one"): "do masks found without a label help?",
    ("proposed_shuffled", "all_one"): "control: do proposals of other frames help as well?",
    ("regions", "all_one"): "do regions found without a label help the whole frame?",
    ("regions_shuffled", "all_one"): "control: do regions of other frames help as well?",
    ("annotated", "all_one"): "do annotated masks help (oracle)?",
    ("box", "all_one"): "does the place alone help (oracle)?",
    ("shuffled", "all_one"): "control: do annotated masks of other frames help as well?",
    ("empty", "all_one"): "does the mask channel alone change the answer?",
}


@dataclass(frozen=True)
class Scored:
    """Cosines [images, planes] by mode, with the truth and cluster of each image.

    Rows are NaN if a mode has no mask.
    """

    planes: tuple[str, ...]
    truth: NDArray[np.int64]  # index into planes
    clusters: NDArray[np.int64]
    scores: dict[str, NDArray[np.float64]]

    @property
    def present(self) -> NDArray[np.int64]:
        """Indices of the planes that occur among the images."""
        return np.unique(self.truth)

    @property
    def present_planes(self) -> list[str]:
        """Their ids."""
        return [self.planes[index] for index in self.present]

    @property
    def compared(self) -> NDArray[np.int64]:
        """The candidates when modes are compared: the planes present.

        If only one is present, every answer would be right, so all planes are candidates.
        """
        return self.present if len(self.present) > 1 else np.arange(len(self.planes))

    @property
    def compared_metric(self) -> str:
        """The name of macro Top-1 among these candidates."""
        return "top1_macro" if len(self.present) > 1 else f"top1_macro_of_{len(self.planes)}"

    @property
    def present_truth(self) -> NDArray[np.int64]:
        """The truth as an index into the present planes."""
        return np.searchsorted(self.present, self.truth).astype(np.int64)

    def rows(self, mode: str) -> Rows:
        """The images that `mode` covers."""
        return np.asarray(~np.isnan(self.scores[mode]).any(axis=1))

    def predictions(self, mode: str) -> NDArray[np.int64]:
        """Index into the present planes [images].

        The result is UNDECIDED for a tie or an image that the mode does not cover.
        """
        return predict(self.scores[mode][:, self.present])


@dataclass(frozen=True)
class Difference:
    """Macro Top-1 of the first mode minus the second on the same images.

    The candidates are `Scored.compared`.
    """

    pair: tuple[str, str]
    question: str
    images: int
    clusters: int
    interval: Interval

    @property
    def reading(self) -> str:
        """The interval in words."""
        if np.isnan(self.interval.low):
            return "no interval: fewer than two patients"
        if self.interval.above_zero:
            return "better"
        return "worse" if self.interval.below_zero else "no difference shown"


def ranks_shown(candidates: int) -> tuple[int, ...]:
    """The k of Top-k among so many candidates: 5 says little if there are hardly more."""
    return (1, 5) if candidates > TOP5_ABOVE else (1,)


def measure_mode(scored: Scored, mode: str, rows: Rows, how: Draws) -> dict[str, Interval]:
    """Every metric of `mode` on the images `rows`, with patient-clustered intervals."""
    scores, truth = scored.scores[mode][rows], scored.truth[rows]
    near, own = scores[:, scored.present], scored.present_truth[rows]
    classes, everything = len(scored.present), len(scored.planes)
    hits = {f"top{k}": top_k_hits(near, own, k) for k in ranks_shown(classes)}
    hits |= {
        f"top{k}_of_{everything}": top_k_hits(scores, truth, k) for k in ranks_shown(everything)
    }
    answers = predict(near)
    chosen = np.eye(classes + 1)[np.where(answers == UNDECIDED, classes, answers)]
    values = np.column_stack([*hits.values(), chosen])
    statistics: dict[str, Statistic] = {}
    for column, name in enumerate(hits):
        base, _, rest = name.partition("_")
        suffix = f"_{rest}" if rest else ""
        statistics |= {
            f"{base}_macro{suffix}": macro(column),
            f"{base}_micro{suffix}": micro(column),
        }
    statistics["f1_macro"] = lambda sums, counts: macro_f1(_square(sums[..., len(hits) :], classes))
    clusters = np.unique(scored.clusters[rows], return_inverse=True)[1]
    return clustered_intervals(Sample(values, own, clusters), statistics, how)


def measure_modes(scored: Scored, rows: Rows, how: Draws) -> dict[str, dict[str, Interval]]:
    """The metrics of each mode that covers all of `rows`."""
    return {
        mode: measure_mode(scored, mode, rows, how)
        for mode in scored.scores
        if scored.rows(mode)[rows].all()
    }


def differences(scored: Scored, how: Draws) -> list[Difference]:
    """Each pair of modes on the images that both cover."""
    found = []
    for pair, question in PAIRS.items():
        if all(mode in scored.scores for mode in pair):
            rows = scored.rows(pair[0]) & scored.rows(pair[1])
            clusters = len(np.unique(scored.clusters[rows]))
            interval = _difference(scored, pair, rows, how)
            found.append(Difference(pair, question, int(rows.sum()), clusters, interval))
    return found


def verdict(found: Sequence[Difference]) -> tuple[bool, str]:
    """Whether masks are shown to help, and the sentence that reports it."""
    by_pair = {difference.pair: difference for difference in found}
    main = by_pair.get(("proposed", "all_one"))
    controls = [
        by_pair[name, "all_one"]
        for name in ("proposed_shuffled", "shuffled")
        if (name, "all_one") in by_pair
    ]
    if main is None:
        return False, "Whether masks help was not tested: there are no proposed masks to compare."
    gain = f"{points(main.interval)} macro Top-1 from proposed masks"
    if not main.interval.above_zero:
        known = "" if main.reading == "no difference shown" else f" ({main.reading})"
        return False, f"{gain}: masks are not shown to help{known}."
    if not controls:
        return (
            False,
            f"{gain}: masks are not shown to help, because there is no shuffled mask as a control.",
        )
    alike = [control for control in controls if control.interval.above_zero]
    if alike:
        names = " and ".join(
            f"{points(control.interval)} from {control.pair[0]}" for control in alike
        )
        return (
            False,
            f"{gain}: masks are not shown to help, because masks of other frames gain as well "
            f"({names}).",
        )
    return True, f"{gain}: masks help, and masks of other frames show no gain."


def points(interval: Interval) -> str:
    """A difference in percentage points: "+3.1 points [+1.0, +5.2]"."""
    if np.isnan(interval.low):
        return f"{100 * interval.point:+.1f} points [no interval]"
    return (
        f"{100 * interval.point:+.1f} points [{100 * interval.low:+.1f}, "
        f"{100 * interval.high:+.1f}]"
    )


def baselines(
    scored: Scored, rows: Rows, planes_seen: dict[str, int]
) -> dict[str, dict[str, float]]:
    """Accuracy without a model: the most frequent training planes, the best constant answer."""
    truth, counts = scored.truth[rows], training_counts(planes_seen, list(scored.planes))
    found: dict[str, dict[str, float]] = {"constant": {}}
    for k in ranks_shown(len(scored.present)):
        found["constant"] |= constant_guess(truth, k)
        if counts.any():
            found.setdefault("majority_class", {}).update(majority_class(counts, truth, k))
    return found


def class_rows(
    scored: Scored, planes_seen: dict[str, int], how: Draws | None = None
) -> list[dict[str, object]]:
    """One row per present plane: images, patients, training images, recall (Top-1) by mode.

    `covered` counts the images and patients that a mode covers; recall has intervals over patients.
    """
    truth = scored.present_truth
    covered = {mode: scored.rows(mode) for mode in scored.scores}
    hits = {mode: top_k_hits(scored.scores[mode][:, scored.present], truth, 1) for mode in covered}
    return [
        {
            "plane": plane,
            **_sizes(scored, truth == index),
            "training_images": planes_seen.get(plane, 0),
            "recall": {
                mode: _share(scored, hits[mode], (truth == index) & rows, how).as_dict()
                for mode, rows in covered.items()
            },
            "covered": {
                mode: _sizes(scored, (truth == index) & rows) for mode, rows in covered.items()
            },
        }
        for index, plane in enumerate(scored.present_planes)
    ]


def _sizes(scored: Scored, rows: Rows) -> dict[str, int]:
    return {"images": int(rows.sum()), "clusters": len(np.unique(scored.clusters[rows]))}


def confusion_of(scored: Scored, mode: str) -> NDArray[np.int64]:
    """Counts [present, present + 1] over the images that `mode` covers."""
    rows = scored.rows(mode)
    return confusion(
        scored.predictions(mode)[rows], scored.present_truth[rows], len(scored.present)
    )


def _difference(scored: Scored, pair: tuple[str, str], rows: Rows, how: Draws) -> Interval:
    truth = np.searchsorted(scored.compared, scored.truth[rows])
    first, second = (
        top_k_hits(scored.scores[mode][rows][:, scored.compared], truth, 1) for mode in pair
    )
    clusters = np.unique(scored.clusters[rows], return_inverse=True)[1]
    return paired_difference(first, second, truth, clusters, how)


def _square(sums: Reals, classes: int) -> Reals:
    """Add rows for the last classes if they have no image.

    Returns confusion counts [..., classes, classes + 1].
    """
    short = classes - sums.shape[-2]
    return np.pad(sums, [(0, 0)] * (sums.ndim - 2) + [(0, short), (0, 0)])


def _share(scored: Scored, hits: Rows, rows: Rows, how: Draws | None) -> Interval:
    """The share of hits among the images `rows`; NaN for none."""
    if not rows.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    clusters = np.unique(scored.clusters[rows], return_inverse=True)[1]
    return clustered_interval(hits[rows], np.zeros_like(clusters), clusters, micro(), how)
