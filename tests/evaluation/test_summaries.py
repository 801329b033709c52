"""The comparison of modes, and when "masks help" may be said."""

import numpy as np
import pytest

from sono.evaluation.statistics.bootstrap import Draws, Interval
from sono.evaluation.summaries import (
    Difference,
    Scored,
    baselines,
    class_rows,
    confusion_of,
    differences,
    measure_mode,
    measure_modes,
    points,
    verdict,
)

GAIN, NOTHING = Interval(0.10, 0.05, 0.15), Interval(0.01, -0.02, 0.04)
EVERYTHING = np.ones(40, np.bool_)


def difference(mode: str, interval: Interval) -> Difference:
    return Difference((mode, "all_one"), "?", 10, 5, interval)


def answers(truth: np.ndarray, wrong: slice, planes: int = 7) -> np.ndarray:
    """Scores that name the truth, but in `wrong` the plane that is absent."""
    named = truth.copy()
    named[wrong] = planes - 1
    return np.eye(planes)[named] + np.linspace(0, 0.01, planes)


@pytest.fixture
def scored() -> Scored:
    truth = np.repeat([1, 3], 20)
    partly = answers(truth, slice(0, 0))
    partly[10:] = np.nan
    scores = {
        "all_one": answers(truth, slice(0, 10)),
        "proposed": answers(truth, slice(0, 0)),
        "annotated": partly,
    }
    return Scored(tuple("abcdefg"), truth, np.arange(40) // 2, scores)


def test_masks_help_only_with_a_gain_that_shuffling_takes_away() -> None:
    helps, text = verdict([difference("proposed", GAIN), difference("shuffled", NOTHING)])
    assert helps and text == (
        "+10.0 points [+5.0, +15.0] macro Top-1 from proposed masks: masks help, and masks of "
        "other frames show no gain."
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            [difference("proposed", GAIN), difference("shuffled", GAIN)],
            "masks of other frames gain as well",
        ),
        (
            [difference("proposed", GAIN), difference("proposed_shuffled", GAIN)],
            "masks of other frames gain as well",
        ),
        ([difference("proposed", GAIN)], "no shuffled mask"),
        (
            [difference("proposed", NOTHING), difference("shuffled", NOTHING)],
            "masks are not shown to help.",
        ),
        (
            [
                difference("proposed", Interval(0.2, np.nan, np.nan)),
                difference("shuffled", NOTHING),
            ],
            "no interval",
        ),
        ([difference("annotated", GAIN), difference("shuffled", NOTHING)], "not tested"),
    ],
)
def test_masks_do_not_help_otherwise(found: list[Difference], why: str) -> None:
    helps, text = verdict(found)
    assert not helps and why in text and ": masks help" not in text


def test_present_planes_are_easier_than_all(scored: Scored) -> None:
    found = measure_mode(scored, "all_one", EVERYTHING, Draws(200))
    assert found["top1_macro_of_7"].point == 0.75
    # without the absent plane the ramp names the later plane, d: b is wrong, and was wrong
    assert found["top1_macro"].point == 0.75
    assert not [name for name in found if "top5" in name]  # 7 candidates
    assert found["f1_macro"].point == pytest.approx((2 * 10 / 30 + 2 * 20 / 50) / 2)


def test_top_5_is_measured_among_more_than_8_planes() -> None:
    truth = np.arange(18) % 9
    scored = Scored(tuple("abcdefghijk"), truth, truth, {"all_one": np.eye(11)[truth]})
    found = measure_mode(scored, "all_one", np.ones(18, np.bool_), Draws(100))
    assert found["top5_macro"].point == found["top5_micro_of_11"].point == 1.0
    everything = np.ones(18, np.bool_)
    assert "top5_macro" in baselines(scored, everything, {"a": 1})["majority_class"]
    few = Scored(scored.planes, truth % 8, truth, scored.scores)
    assert "top5_macro" not in measure_mode(few, "all_one", everything, Draws(100))
    assert "top5_macro" not in baselines(few, everything, {"a": 1})["constant"]


def test_a_mode_is_measured_only_where_it_covers_the_images(scored: Scored) -> None:
    assert set(measure_modes(scored, EVERYTHING, Draws(100))) == {"all_one", "proposed"}
    assert set(measure_modes(scored, scored.rows("annotated"), Draws(100))) == {
        "all_one",
        "proposed",
        "annotated",
    }


def test_differences_use_the_images_of_both_modes(scored: Scored) -> None:
    found = {d.pair[0]: d for d in differences(scored, Draws(200))}
    assert (found["proposed"].images, found["annotated"].images) == (40, 10)
    assert found["proposed"].interval.point == 0.25
    assert found["proposed"].reading == "better"
    assert (found["annotated"].interval.point, found["annotated"].interval.high) == (1.0, 1.0)
    assert 0.5 < found["annotated"].interval.low < 1


def test_with_one_plane_modes_are_compared_among_all(scored: Scored) -> None:
    truth = np.full(40, 3)
    single = Scored(
        scored.planes,
        truth,
        scored.clusters,
        {"all_one": answers(truth, slice(0, 40)), "proposed": np.eye(7)[truth]},
    )
    assert single.compared_metric == "top1_macro_of_7"
    assert differences(single, Draws(100))[0].interval.point == 1.0


def test_class_rows_count_images_patients_and_training(scored: Scored) -> None:
    row = class_rows(scored, {"b": 9})[0]
    assert (row["plane"], row["images"], row["clusters"], row["training_images"]) == (
        "b",
        20,
        10,
        9,
    )
    assert {mode: each["point"] for mode, each in row["recall"].items()} == {
        "all_one": 0.5,
        "proposed": 1.0,
        "annotated": 1.0,
    }
    assert row["recall"]["all_one"]["low"] < 0.5 < row["recall"]["all_one"]["high"]
    assert class_rows(scored, {})[1]["recall"]["annotated"]["point"] is None


def test_confusion_covers_the_images_of_the_mode(scored: Scored) -> None:
    assert confusion_of(scored, "all_one").tolist() == [[10, 10, 0], [0, 20, 0]]
    assert confusion_of(scored, "annotated").sum() == 10


def test_a_run_without_counts_has_no_majority_class(scored: Scored) -> None:
    assert set(baselines(scored, EVERYTHING, {})) == {"constant"}
    assert baselines(scored, EVERYTHING, {"b": 2})["majority_class"]["top1_micro"] == 0.5


def test_points_without_interval_say_so() -> None:
    assert points(Interval(-0.031, np.nan, np.nan)) == "-3.1 points [no interval]"
