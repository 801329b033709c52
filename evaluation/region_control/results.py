"""The results of region control as one JSON document, and the verdict on whether masks steer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sono.evaluation.region_control.measures import (
    CONDITIONS,
    TRAINING,
    Reals,
    RegionFeatures,
    all_one_cosines,
    chance_of_naming,
    conflict_shares,
    counts_of,
    follow_interval,
    follow_shares,
    mask_cosines,
    mean_interval,
    naming_difference,
    naming_hits,
    naming_interval,
    unseen_interval,
)
from sono.evaluation.region_control.regions import Regions
from sono.evaluation.statistics.bootstrap import Draws, Interval, micro
from sono.evaluation.summaries import points

INERT = 0.999  # mean cosine between two masks of a frame from which the mask changes nothing
COMPARED = ("all_one", "place_and_shape", "gray_frame")  # with the own mask
NOT_TESTED = "Whether the mask steers was not tested: "


@dataclass(frozen=True)
class Steering:
    """The measures that decide whether the mask steers.

    All are in the plane and with the training phrasing. `gain` is own minus all-one, `pixels` own
    minus place and shape, of `donated` masks, which have a frame of another patient; `losses` are
    the points that unseen phrasings lose, on average and at worst (None without any).
    """

    own: Interval
    all_one: float
    gain: Interval
    follow: Interval
    cosine: float
    pixels: Interval
    donated: int
    chance: float
    losses: tuple[float, float] | None = None

    @property
    def steers(self) -> bool:
        """Whether the gain is above zero, the follow rate above chance, and masks differ.

        Masks differ if the mean cosine between the features of two masks is below INERT.
        """
        return self.gain.above_zero and self.follow.low > self.chance and self.cosine < INERT

    @property
    def names_regions(self) -> bool:
        """Whether naming is above chance: its complete interval, or the estimate without one."""
        least = self.own.point if np.isnan(self.own.low) else self.own.low
        return bool(least > self.chance)


def region_control_results(regions: Regions, how: Draws) -> dict[str, Any]:
    """All measures with intervals, and the verdict."""
    data = regions.data
    counts = {"masks": len(regions.masks), "left_out": regions.left_out}
    if data is None or not data.contested.any():
        return counts | {"verdict": {"steers": None, "text": _why_not(regions)}}
    words = _phrasings(data, how)
    steering = _steering(data, words["in_plane"], how)
    return counts | _counts(data) | {
        "verdict": {"steers": steering.steers, "text": sentence(steering)},
        "chance": {
            "in_plane": _round(steering.chance),
            "among_all": _round(1 / len(data.structures)),
        },
        "conditions": _conditions(data, how),
        "differences": {name: _difference(data, name, how) for name in COMPARED},
        "follow": follow_interval(data, how).as_dict()
        | counts_of(data, ~np.isnan(follow_shares(data))),
        "cosine": {
            "between_masks": _mean_of(data, mask_cosines(data), how),
            "own_and_all_one": _mean_of(data, all_one_cosines(data), how),
        },
        "conflict": _conflict(regions, how),
        "phrasings": words,
        "structures": structure_rows(data, how),
    }  # fmt: skip


def sentence(found: Steering) -> str:
    """How often masked structures are named, whether the mask steers, and what contributes."""
    if found.steers:
        verdict = "the mask steers"
    elif np.isnan(found.gain.low) or np.isnan(found.follow.low):
        verdict = "the mask is not shown to steer"
    else:
        verdict = "the mask does not steer"
    return (
        f"{_share(found.own)} of masked structures are named correctly ({_percent(found.all_one)} "
        f"without a mask): {verdict}. {_following(found)}; {_pixels(found)}; "
        f"{_rephrasing(found)}."
    )


def structure_rows(data: RegionFeatures, how: Draws) -> list[dict[str, Any]]:
    """One row per structure: masks, patients, shares of correct names, and the follow rate.

    The shares are in the plane, in three conditions, and under the own mask among all structures.
    """
    hits = {
        name: np.where(data.has(name), naming_hits(data, name), np.nan)
        for name in ("own", "all_one")
    }
    if data.has("place_and_shape").any():
        near = naming_hits(data, "place_and_shape").astype(np.float64)
        hits["place_and_shape"] = np.where(data.has("place_and_shape"), near, np.nan)
    columns = {name: np.where(data.contested, values, np.nan) for name, values in hits.items()}
    columns |= {
        "among_all": naming_hits(data, all_of=True).astype(np.float64),
        "follow": follow_shares(data),
    }
    rows = []
    for index in np.unique(data.structure):
        own = data.structure == index
        shares = {
            name: mean_interval(data, chosen, how, micro()).as_dict()
            | counts_of(data, ~np.isnan(chosen))
            for name, values in columns.items()
            for chosen in [np.where(own, values, np.nan)]
        }
        rows.append({"structure": data.structures[index], **counts_of(data, own), **shares})
    return rows


def _steering(data: RegionFeatures, words: Mapping[str, Any], how: Draws) -> Steering:
    return Steering(
        naming_interval(data, "own", how=how),
        naming_interval(data, "all_one", how=how).point,
        naming_difference(data, "own", "all_one", how),
        follow_interval(data, how),
        mean_interval(data, mask_cosines(data), how).point,
        naming_difference(data, "own", "place_and_shape", how),
        int((data.has("place_and_shape") & data.contested).sum()),
        chance_of_naming(data),
        None if words["worst"] is None else (words["mean_loss"], words["worst_loss"]),
    )


def _counts(data: RegionFeatures) -> dict[str, int]:
    return {
        "frames": len(np.unique(data.frame)),
        "clusters": len(np.unique(data.cluster)),
        "single_candidate": int((~data.contested).sum()),
        "pairs": int((~np.isnan(follow_shares(data))).sum()),
        "competing_structures": len(data.structures),
    }


def _conditions(data: RegionFeatures, how: Draws) -> dict[str, Any]:
    return {
        name: {
            "masks": int(data.has(name).sum()),
            "in_plane": naming_interval(data, name, how=how).as_dict()
            | counts_of(data, data.has(name) & data.contested),
            "among_all": naming_interval(data, name, all_of=True, how=how).as_dict()
            | counts_of(data, data.has(name)),
        }
        for name in CONDITIONS
    }


def _difference(data: RegionFeatures, name: str, how: Draws) -> dict[str, Any]:
    """Naming under the own mask minus naming in the condition `name`."""
    rows = data.has("own") & data.has(name) & data.contested
    return naming_difference(data, "own", name, how).as_dict() | counts_of(data, rows)


def _mean_of(data: RegionFeatures, values: Reals, how: Draws) -> dict[str, Any]:
    rows = np.asarray(~np.isnan(values))
    return mean_interval(data, values, how).as_dict() | counts_of(data, rows)


def _phrasings(data: RegionFeatures, how: Draws) -> dict[str, Any]:
    """Naming by phrasing, in the plane and among all, with the mean of the unseen ones."""
    found = {}
    for name, all_of in {"in_plane": False, "among_all": True}.items():
        each = {words: naming_interval(data, "own", words, all_of, how) for words in data.texts}
        found[name] = _summary(each, unseen_interval(data, all_of, how))
    return found


def _summary(each: Mapping[str, Interval], mean: Interval) -> dict[str, Any]:
    """Intervals by phrasing, with mean, standard deviation and the worst of the unseen ones.

    The losses are against the training phrasing.
    """
    unseen = {words: interval.point for words, interval in each.items() if words != TRAINING}
    trained = each[TRAINING].point
    worst = min(unseen, key=lambda words: unseen[words]) if unseen else None
    average = float(np.mean(list(unseen.values()))) if unseen else float("nan")
    return {
        "each": {words: interval.as_dict() for words, interval in each.items()},
        "mean": mean.as_dict(),
        "sd": None if len(unseen) < 2 else _round(float(np.std(list(unseen.values()), ddof=1))),
        "worst": worst,
        "mean_loss": _round(trained - average),
        "worst_loss": None if worst is None else _round(trained - unseen[worst]),
    }


def _conflict(regions: Regions, how: Draws) -> dict[str, Any]:
    if regions.conflict is None:
        return {}
    clusters = regions.conflict.cluster
    counts = {"frames": len(clusters), "clusters": len(np.unique(clusters))}
    shares = conflict_shares(regions.conflict, how)
    return {name: interval.as_dict() | counts for name, interval in shares.items()}


def _why_not(regions: Regions) -> str:
    """The sentence for a study whose regions cannot be named."""
    if regions.masks:
        return f"{NOT_TESTED}each plane with masks has one structure, so its name needs no mask."
    if regions.left_out:
        reasons = " and ".join(f"{count} {reason}" for reason, count in regions.left_out.items())
        return f"{NOT_TESTED}no mask marks a region ({reasons})."
    return f"{NOT_TESTED}no frame has an accepted or edited mask."


def _following(found: Steering) -> str:
    if np.isnan(found.follow.point):
        return "No frame has masks of two structures to follow"
    text = f"{_percent(found.follow.point)} of answers follow the mask of another structure"
    if not found.steers:
        text += f" (chance {_percent(found.chance)}, mean cosine between masks {found.cosine:.3f})"
    return text


def _pixels(found: Steering) -> str:
    gain, masks = found.pixels, f"{found.donated} masks"
    if np.isnan(gain.point):
        return "what the pixels contribute is unknown without a second patient of a plane"
    if gain.above_zero:
        return (
            f"the pixels contribute {points(gain).removeprefix('+')} over place and shape ({masks})"
        )
    return f"the pixels are not shown to add to place and shape ({points(gain)}, {masks})"


def _rephrasing(found: Steering) -> str:
    if found.losses is None:
        return "no unseen phrasing was given"
    mean, worst = found.losses
    if not found.names_regions:
        return "naming is not above chance, so unseen phrasings have nothing to lose"
    if worst <= 0:
        return "unseen phrasings lose nothing"
    return (
        f"unseen phrasings lose {max(100 * mean, 0):.1f} points on average and "
        f"{100 * worst:.1f} at worst"
    )


def _share(interval: Interval) -> str:
    if np.isnan(interval.low):
        return _percent(interval.point)
    return f"{_percent(interval.point)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _round(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
