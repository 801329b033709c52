"""Region measures on hand-made features whose answers are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sono.evaluation.region_control.measures import (
    CONDITIONS,
    TRAINING,
    CueConflict,
    RegionFeatures,
    all_one_cosines,
    chance_of_naming,
    conflict_shares,
    follow_rate,
    follow_shares,
    macro_mean,
    mask_cosines,
    mean_interval,
    mean_mask_cosine,
    name_regions,
    naming_accuracy,
    naming_difference,
    naming_interval,
    other_masks,
    region_ranks,
    unseen_interval,
)
from sono.evaluation.region_control.regions import RegionMask, Regions
from sono.evaluation.region_control.results import (
    Steering,
    _summary,
    region_control_results,
    sentence,
)
from sono.evaluation.statistics.bootstrap import Draws, Interval
from sono.evaluation.statistics.metrics import UNDECIDED

QUICK = Draws(100)
AXES = np.eye(6)
# Plane 0 shows the structures 0 to 2, plane 1 the structures 2 to 4, plane 2 only 5.
CANDIDATES = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]], np.bool_)


def perfect(**features: NDArray[np.floating]) -> RegionFeatures:
    """12 patients with a frame of each plane; the model names the masks of all structures."""
    masks = [
        (structure, plane, 3 * patient + plane, patient)
        for patient in range(12)
        for plane in range(3)
        for structure in np.flatnonzero(CANDIDATES[plane])
    ]
    structure, plane, frame, cluster = np.array(masks).T
    given = {"own": AXES[structure], "all_one": np.full((len(structure), 6), 6**-0.5)}
    texts = {TRAINING: AXES, "the X": AXES, "X at 20 weeks": AXES}
    return RegionFeatures(
        tuple("abcdef"), CANDIDATES, structure, plane, frame, cluster, given | features, texts
    )


def inert() -> RegionFeatures:
    """A model that gives the plane's first structure whatever the mask is."""
    data = perfect()
    blind = AXES[CANDIDATES.argmax(axis=1)[data.plane]]
    return replace(data, features=dict.fromkeys(CONDITIONS, blind))


def test_a_perfect_model_names_every_region_and_follows_the_mask() -> None:
    data = perfect()
    assert naming_accuracy(data) == naming_accuracy(data, all_of=True) == follow_rate(data) == 1
    # all-one ties everything
    assert (mean_mask_cosine(data), naming_accuracy(data, "all_one")) == (0, 0)
    found = naming_difference(data, "own", "all_one", QUICK)
    assert (found.point, found.high) == (1, 1) and 0.8 < found.low < 1


def test_an_inert_model_follows_nothing_and_has_cosine_one() -> None:
    data = inert()
    assert (follow_rate(data), mean_mask_cosine(data)) == (0, 1)
    assert naming_difference(data, "own", "all_one", QUICK).point == 0
    assert np.all(all_one_cosines(data) == 1)
    # the first of three structures is right: a and c of plane 0 and 1, c is half of the time the
    # first
    assert naming_accuracy(data) == pytest.approx((1 + 0 + 0.5 + 0 + 0) / 5)


def test_a_plane_with_one_candidate_is_left_out_in_the_plane_only() -> None:
    data = perfect()
    assert (~data.contested).sum() == 12
    wrong = replace(
        data,
        features={"own": np.where(data.structure[:, None] == 5, AXES[0], AXES[data.structure])},
    )
    assert naming_accuracy(wrong) == 1
    assert naming_accuracy(wrong, all_of=True) == pytest.approx(5 / 6)
    assert chance_of_naming(data) == pytest.approx(1 / 3)


def test_ties_and_missing_features_name_nothing() -> None:
    features = np.array([AXES[0], AXES[0] + AXES[1], np.full(6, np.nan), AXES[5]])
    candidates = np.array([[1, 1, 0, 0, 0, 0]] * 4, np.bool_)
    assert name_regions(features, AXES, candidates).tolist() == [0, UNDECIDED, UNDECIDED, UNDECIDED]
    assert region_ranks(features, AXES, np.array([1, 1, 1, 0]), candidates).tolist() == [2, 2, 0, 2]


def test_a_model_of_place_and_shape_alone_gains_nothing_from_the_pixels() -> None:
    data = perfect()
    data = replace(data, features={**data.features, "place_and_shape": data.features["own"]})
    found = naming_difference(data, "own", "place_and_shape", QUICK)
    assert found.point == 0 and found.low == -found.high < 0  # exact: all are equal


def test_a_difference_is_paired_on_the_masks_that_both_conditions_have() -> None:
    data = perfect()
    elsewhere = np.roll(AXES[data.structure], 1, axis=1)
    elsewhere[data.cluster < 6] = np.nan
    data = replace(data, features={**data.features, "moved": elsewhere})
    assert data.has("moved").sum() == len(data.structure) // 2
    assert naming_difference(data, "own", "moved", QUICK).point == 1
    assert naming_accuracy(data, "moved") == 0
    assert np.isnan(naming_interval(data, "box", how=QUICK).point)
    assert np.isnan(naming_difference(data, "own", "box", QUICK).point)


def test_one_phrasing_that_breaks_lowers_the_mean_by_its_share() -> None:
    data = perfect()
    data = replace(data, texts={**data.texts, "X at 20 weeks": np.roll(AXES, 1, axis=0)})
    assert naming_accuracy(data, phrasing="X at 20 weeks") == 0
    assert naming_accuracy(data, phrasing="the X") == naming_accuracy(data) == 1
    assert unseen_interval(data, how=QUICK).point == 0.5
    assert np.isnan(unseen_interval(replace(data, texts={TRAINING: AXES})).point)


def test_the_follow_rate_asks_that_the_answer_changes() -> None:
    always_b = replace(perfect(), features={"own": np.tile(AXES[1], (84, 1))})
    assert np.nanmax(follow_shares(always_b)) == 0
    # one of two masks of a frame is named: under the other one the answer does not become its name
    two = RegionFeatures(
        ("a", "b"), np.ones((1, 2), np.bool_), np.arange(2), np.zeros(2, int), np.zeros(2, int),
        np.zeros(2, int),
        {"own": np.eye(2)[[0, 0]]}, {TRAINING: np.eye(2)},
    )  # fmt: skip
    assert follow_shares(two).tolist() == [0, 0]
    assert follow_shares(replace(two, features={"own": np.eye(2)})).tolist() == [1, 1]


def test_other_masks_are_those_of_other_structures_of_the_frame() -> None:
    found = other_masks(np.array([7, 3, 7, 7, 3]), np.array([0, 0, 1, 0, 0]))
    assert sorted(map(tuple, found.tolist())) == [(0, 2), (2, 0), (2, 3), (3, 2)]
    assert other_masks(np.zeros(0, int), np.zeros(0, int)).shape == (0, 2)


def test_a_study_without_a_second_structure_has_no_follow_rate() -> None:
    data = perfect()
    alone = replace(data, frame=np.arange(len(data.structure)))
    assert np.isnan(follow_rate(alone)) and np.isnan(mean_mask_cosine(alone))
    assert np.isnan(mean_interval(alone, follow_shares(alone), QUICK).point)


def test_the_interval_has_the_accuracy_as_its_point_and_widens_with_the_patients() -> None:
    data = perfect()
    missed = data.cluster % 2 == 0
    data = replace(data, features={"own": np.where(missed[:, None], AXES[5], AXES[data.structure])})
    found = naming_interval(data, "own", how=QUICK)
    assert found.point == naming_accuracy(data) == 0.5
    assert found.low < 0.5 < found.high
    assert np.isnan(naming_interval(replace(data, cluster=np.zeros(84, int)), "own", how=QUICK).low)


def test_a_cue_conflict_follows_the_frame_the_mask_or_neither() -> None:
    answers = AXES[[0, 1, 1, 3]][:, :4] + [[0, 0, 0, 0]] * 4
    tied = np.array([[1.0, 1, 0, 0]])
    conflict = CueConflict(
        np.concatenate([answers, tied]), np.zeros(5, int), np.full(5, 1), np.arange(5), np.eye(4)
    )  # fmt: skip
    found = conflict_shares(conflict, QUICK)
    assert {name: share.point for name, share in found.items()} == {
        "frame": 0.2,
        "mask": 0.4,
        "neither": 0.4,
    }
    empty = replace(
        conflict,
        features=np.zeros((0, 4)),
        frame_plane=np.zeros(0, int),
        mask_plane=np.zeros(0, int),
    )
    assert conflict_shares(empty) == {}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_measures_are_shares_and_do_not_depend_on_the_order_of_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks, structures = int(rng.integers(1, 30)), 4
    features = rng.normal(size=(masks, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    data = RegionFeatures(
        tuple("abcd"), np.ones((2, structures), np.bool_), rng.integers(0, structures, masks),
        rng.integers(0, 2, masks), rng.integers(0, 6, masks), rng.integers(0, 3, masks),
        {"own": features, "all_one": features}, {TRAINING: rng.normal(size=(structures, 5))},
    )  # fmt: skip
    order = rng.permutation(masks)
    turned = replace(
        data, structure=data.structure[order], plane=data.plane[order], frame=data.frame[order],
        cluster=data.cluster[order],
        features={name: each[order] for name, each in data.features.items()},
    )  # fmt: skip
    for measure in (naming_accuracy, follow_rate, mean_mask_cosine, chance_of_naming):
        assert measure(data) == pytest.approx(measure(turned), nan_ok=True, abs=1e-9)
    assert 0 <= naming_accuracy(data) <= 1
    assert np.all((follow_shares(data) >= 0) | np.isnan(follow_shares(data)))
    assert np.all((np.abs(mask_cosines(data)) < 1.0001) | np.isnan(mask_cosines(data)))
    hits = region_ranks(features, data.texts[TRAINING], data.structure, data.in_plane) == 1
    assert macro_mean(hits, data.structure) == pytest.approx(naming_accuracy(data))


def findings(data: RegionFeatures) -> dict[str, Any]:
    everything = dict.fromkeys(CONDITIONS, data.features["own"]) | dict(data.features)
    masks = tuple(RegionMask(0, "a", (), np.zeros(1, np.uint32)) for _ in data.structure)
    return region_control_results(Regions(masks, {}, replace(data, features=everything)), QUICK)


def test_the_sentence_of_a_perfect_model_says_that_the_mask_steers() -> None:
    data = perfect(place_and_shape=np.roll(AXES, 1, axis=0)[perfect().structure])
    found = findings(data)
    assert found["verdict"] == {
        "steers": True,
        "text": "100.0 % [83.4, 100.0] of masked structures are named correctly (0.0 % without a "
        "mask): the mask steers. 100.0 % of answers follow the mask of another structure; the "
        "pixels contribute 100.0 points [+83.4, +100.0] over place and shape (72 masks); "
        "unseen phrasings lose nothing.",
    }
    assert (found["single_candidate"], found["pairs"], found["clusters"]) == (12, 72, 12)


def test_phrasings_have_a_mean_a_standard_deviation_and_a_worst_one() -> None:
    points = {"training": 0.9, "a": 0.8, "b": 0.6}
    mean = Interval(0.7, 0.6, 0.8)
    found = _summary({words: Interval(point, 0, 1) for words, point in points.items()}, mean)
    assert (found["mean"]["point"], found["worst"]) == (0.7, "b")
    assert found["worst_loss"] == pytest.approx(0.3)
    assert found["sd"] == pytest.approx(0.02**0.5, abs=1e-6)
    assert _summary({"training": Interval(0.9, 0, 1)}, mean)["sd"] is None


def test_the_sentence_of_an_inert_model_says_that_the_mask_does_not_steer() -> None:
    found = findings(inert())
    assert found["verdict"]["steers"] is False
    assert found["verdict"]["text"].startswith("30.0 % [21.4, 40.3] of masked")
    assert ": the mask does not steer. " in found["verdict"]["text"]
    assert "mean cosine between masks 1.000" in found["verdict"]["text"]
    assert (
        "not shown to add to place and shape (+0.0 points [-16.6, +16.6], 72 masks)"
        in found["verdict"]["text"]
    )


def test_a_mask_that_acts_by_place_and_shape_steers_without_pixels() -> None:
    found = findings(perfect())
    assert found["verdict"]["steers"]
    assert "the pixels are not shown to add to place and shape" in found["verdict"]["text"]
    assert found["differences"]["place_and_shape"] == {
        "point": 0, "low": -0.165873, "high": 0.165873, "masks": 72, "frames": 24, "clusters": 12,
    }  # fmt: skip


def test_a_model_that_breaks_under_one_phrasing_is_said_to() -> None:
    data = perfect()
    found = findings(replace(data, texts={**data.texts, "X at 20 weeks": np.roll(AXES, 1, axis=0)}))
    assert (
        "unseen phrasings lose 50.0 points on average and 100.0 at worst"
        in found["verdict"]["text"]
    )
    assert found["phrasings"]["in_plane"]["worst"] == "X at 20 weeks"
    assert found["phrasings"]["in_plane"]["mean"]["point"] == 0.5


STEERS = Steering(
    Interval(0.8, 0.7, 0.9),
    0.3,
    Interval(0.5, 0.4, 0.6),
    Interval(0.6, 0.5, 0.7),
    0.4,
    Interval(0.2, 0.1, 0.3),
    72,
    0.25,
)
UNKNOWN = Interval(0.6, float("nan"), float("nan"))


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "the mask steers"),
        ({"gain": Interval(0.5, -0.1, 0.9)}, "the mask does not steer"),
        ({"follow": Interval(0.6, 0.25, 0.9)}, "the mask does not steer"),
        ({"cosine": 0.9995}, "the mask does not steer"),
        ({"gain": UNKNOWN}, "the mask is not shown to steer"),
        ({"follow": UNKNOWN}, "the mask is not shown to steer"),
    ],
)
def test_all_three_conditions_decide(change: dict[str, Any], verdict: str) -> None:
    found = replace(STEERS, **change)
    assert sentence(found).startswith("80.0 % [70.0, 90.0] of masked structures are named")
    assert f": {verdict}. " in sentence(found)
    assert found.steers is (verdict == "the mask steers")


@pytest.mark.parametrize(
    "own", [Interval(0, 0, 0), Interval(0.4, 0.2, 0.6), Interval(0.2, float("nan"), float("nan"))]
)
def test_phrasings_of_a_model_that_names_nothing_have_nothing_to_lose(own: Interval) -> None:
    found = replace(STEERS, own=own, losses=(0.0, 0.0))
    assert "naming is not above chance, so unseen phrasings have nothing to lose" in sentence(found)
    assert sentence(replace(STEERS, losses=(-0.1, 0.0))).endswith("unseen phrasings lose nothing.")


def test_a_study_without_material_is_not_tested() -> None:
    found = region_control_results(Regions(()), QUICK)
    assert found["verdict"]["steers"] is None
    assert "conditions" not in found
