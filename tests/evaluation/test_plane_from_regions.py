"""Planes from the whole frame and proposed regions together, on scores whose answers are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sono.evaluation.plane_from_regions import (
    EVIDENCE,
    RegionScores,
    choose,
    plane_evidence,
    plane_scores,
)
from sono.evaluation.proposed_regions import Weighting, regions_verdict, validation_frames
from sono.evaluation.statistics.bootstrap import Interval

# Plane 0 shows the structures 0 and 1, plane 1 the structures 1 and 2, plane 2 none.
SHOWS = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], np.bool_)
GAIN, NOTHING = Interval(0.03, 0.01, 0.05), Interval(0.01, -0.02, 0.04)


def scores(*frames: list[list[float]]) -> RegionScores:
    """Frames of regions of cosines with three structures; shorter frames are filled up with NaN."""
    most = max(len(regions) for regions in frames)
    missing = [[float("nan")] * 3]
    return RegionScores(
        np.array([regions + missing * (most - len(regions)) for regions in frames]), SHOWS, 10.0
    )


def test_the_best_structure_of_a_plane_speaks_for_it() -> None:
    found = scores([[0.9, 0.1, 0.3], [0.2, 0.1, 0.5]])
    assert plane_evidence(found, "max")[0].tolist() == pytest.approx([0.9, 0.5, 0.7])
    assert plane_evidence(found, "mean")[0].tolist() == pytest.approx([0.55, 0.4, 0.475])


def test_the_posterior_is_the_share_of_the_structures_that_the_plane_shows() -> None:
    found = plane_evidence(scores([[0.3, 0.3, 0.3]]), "posterior")[0]
    assert found[:2].tolist() == pytest.approx([np.log(2 / 3) / 10] * 2)
    sure = plane_evidence(scores([[1.0, -1.0, -1.0]]), "posterior")[0]
    assert sure[0] == pytest.approx(0, abs=1e-6) and sure[1] == pytest.approx(
        -2 + np.log(2) / 10, abs=1e-6
    )


@pytest.mark.parametrize("kind", EVIDENCE)
def test_a_missing_region_does_not_count_and_a_frame_without_any_has_no_evidence(kind: str) -> None:
    found = scores([[0.9, 0.1, 0.3]], [[0.9, 0.1, 0.3], [0.0, 0.0, 0.0]])
    assert (
        plane_evidence(found, kind)[0].tolist()
        == plane_evidence(scores([[0.9, 0.1, 0.3]]), kind)[0].tolist()
    )
    empty = replace(found, cosines=np.full((2, 1, 3), np.nan))
    assert plane_evidence(empty, kind).tolist() == [[0, 0, 0]] * 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([*EVIDENCE]))
def test_evidence_ignores_the_order_of_regions_and_zero_weight_leaves_the_frame(
    seed: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    regions = RegionScores(rng.uniform(-1, 1, (5, 4, 3)), SHOWS, 7.0)
    evidence = plane_evidence(regions, kind)
    turned = replace(regions, cosines=regions.cosines[:, rng.permutation(4)])
    np.testing.assert_allclose(plane_evidence(turned, kind), evidence)
    assert np.isfinite(evidence).all() and (evidence <= 1).all()
    whole = np.round(rng.uniform(-1, 1, (5, 3)), 6)
    np.testing.assert_array_equal(plane_scores(whole, evidence, 0), whole)


def test_the_weight_is_the_smallest_that_is_best_on_the_validation_frames() -> None:
    regions = scores([[0.9, 0.0, 0.0]], [[0.0, 0.0, 0.9]])
    whole = np.array([[0.0, 0.4, -1], [0.4, 0.0, -1]])  # both wrong without regions
    best, tried = choose(whole, regions, np.array([0, 1]), "max")
    assert (best.weight, best.top1_macro) == (0.5, 1.0)
    assert [choice.top1_macro for choice in tried] == [0, 0, 0, 1, 1, 1, 1]
    right = choose(whole[::-1], regions, np.array([0, 1]), "max")[0]
    assert right.weight == 0


@pytest.mark.parametrize(
    ("weighting", "gain", "control", "helps", "words"),
    [
        (
            Weighting("max", 0.5, 23),
            GAIN,
            NOTHING,
            True,
            "+3.0 points [+1.0, +5.0] macro Top-1 from proposed regions",
        ),
        (Weighting("max", 0.5), GAIN, NOTHING, True, "(weight 0.5, set in sono.toml)"),
        (
            Weighting("max", 0.5, 23),
            GAIN,
            GAIN,
            False,
            "because those of other frames gain as well",
        ),
        (Weighting("max", 0.5, 23), NOTHING, NOTHING, False, "are not shown to help"),
        (
            Weighting("max", 0.0, 23),
            NOTHING,
            NOTHING,
            False,
            "on the 23 validation frames, macro Top-1 is highest without them",
        ),
        (Weighting("max", 0.0), NOTHING, NOTHING, False, "switched off"),
    ],
)
def test_regions_help_only_with_a_gain_that_other_frames_do_not_give(
    weighting: Weighting, gain: Interval, control: Interval, helps: bool, words: str
) -> None:
    found, text = regions_verdict(weighting, gain, control)
    assert found is helps and words in text


def test_the_weight_is_never_chosen_on_evaluated_or_held_out_frames() -> None:
    rows = [
        ("a", "p1", "A", "val", "eye", None),
        ("b", "p2", "A", "val", "eye", None),  # a patient of the evaluated frames
        ("c", "p3", "B", "val", "eye", None),  # held out
        ("d", "p4", "A", "train", "eye", None),
        ("e", "p5", "A", "val", "other", None),
        ("f", "p6", "A", "val", None, None),
        ("g", "p7", None, "val", "eye", None),
        ("h", "p8", "A", "val", "eye", "g1"),  # a near duplicate of an evaluated frame
        ("i", "p9", "B", "test", "eye", "g1"),
        ("j", "p2", "B", "test", "eye", None),
    ]
    names = ["image_id", "patient_id", "center", "split", "plane", "duplicate_group"]
    absent = dict.fromkeys(("study_id", "patient_group", "exam_id", "partition"))
    images = pd.DataFrame(rows, columns=names, dtype="str").assign(**absent)
    evaluated = images[images["split"] == "test"]
    assert validation_frames(images, ("B",), evaluated)["image_id"].tolist() == ["a"]
    assert validation_frames(images, (), evaluated)["image_id"].tolist() == ["a", "c", "g"]
