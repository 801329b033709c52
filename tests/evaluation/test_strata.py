"""Groups of frames: their scores by hand, the worst one, and small groups."""

import numpy as np
import pandas as pd
import pytest

from sono.evaluation.statistics.bootstrap import Draws
from sono.evaluation.strata import stratum_results
from sono.evaluation.summaries import Scored

COUNT = 80


@pytest.fixture
def frames() -> pd.DataFrame:
    """40 patients; machine M2 and calipers on the second half, spacing rises, ages of 12 weeks."""
    return pd.DataFrame(
        {
            "machine": ["M1"] * 40 + ["M2"] * 38 + ["M3", None],
            "sector_kind": ["convex"] * COUNT,
            "ga_days": pd.array([84] * 79 + [None], "Float64"),
            "row_spacing_mm": np.linspace(0.1, 0.3, COUNT),
            "bmi_band": [None] * COUNT,
            "parity": [None] * COUNT,
            "reasons": [[]] * 40 + [["overlay"]] * 40,
        }
    )


@pytest.fixture
def scored() -> Scored:
    """Every answer of the first half is right, every second one of the second half is not."""
    truth = np.arange(COUNT) % 2
    answers = np.where((np.arange(COUNT) >= 40) & (truth == 1), 0, truth)
    return Scored(("a", "b"), truth, np.arange(COUNT) // 2, {"all_one": np.eye(2)[answers]})


def test_groups_have_their_scores_and_the_worst_is_named(
    frames: pd.DataFrame, scored: Scored
) -> None:
    found = stratum_results(scored, frames, Draws(100))
    rows = {row["group"]: row for row in found["groups"]}
    points = {name: row["top1_micro"]["point"] for name, row in rows.items()}
    assert points["machine M1"] == points["without code overlay"] == 1.0
    assert points["machine M2"] == points["with code overlay"] == 0.5
    assert (rows["with code overlay"]["images"], rows["with code overlay"]["clusters"]) == (40, 20)
    assert found["worst"] in ("machine M2", "with code overlay", "pixels above 0.233 mm")
    # M3 is one patient; one sector and one band of ages are no groups to compare
    assert "machine M3" not in rows and found["left_out"] == 1
    assert not any(name.startswith(("sector", "before")) for name in rows)
    spacing = [row for name, row in rows.items() if name.startswith("pixels")]
    assert sum(row["images"] for row in spacing) == COUNT and len(spacing) == 3


def test_the_order_of_frames_does_not_matter(frames: pd.DataFrame, scored: Scored) -> None:
    order = np.random.default_rng(0).permutation(COUNT)
    turned = Scored(
        scored.planes,
        scored.truth[order],
        scored.clusters[order],
        {"all_one": scored.scores["all_one"][order]},
    )
    other = stratum_results(turned, frames.iloc[order].reset_index(drop=True), Draws(100))
    assert other == stratum_results(scored, frames, Draws(100))


def test_frames_without_any_property_have_no_groups(frames: pd.DataFrame, scored: Scored) -> None:
    bare = frames.assign(
        machine=None, sector_kind=None, ga_days=pd.NA, row_spacing_mm=np.nan, reasons=None
    )
    assert stratum_results(scored, bare, Draws(100)) == {
        "groups": [],
        "left_out": 0,
        "worst": None,
        "pairs": [],
        "pairs_left_out": 0,
        "worst_pair": None,
    }


def test_the_worst_pair_is_found_where_no_group_alone_is_bad(frames: pd.DataFrame) -> None:
    """Only frames of machine M2 of parous mothers are wrong."""
    truth = np.arange(COUNT) % 2
    parous = np.arange(COUNT) // 4 % 2 == 0  # patients have two frames
    wrong = (np.arange(COUNT) >= 40) & parous
    mothers = frames.assign(
        machine=["M1"] * 40 + ["M2"] * 40,
        bmi_band=["below 25"] * 76 + ["30 and above"] * 4,
        parity=np.where(parous, "parous", "nulliparous"),
        reasons=None,
        row_spacing_mm=np.nan,
    )
    answers = np.where(wrong, 1 - truth, truth)
    known = Scored(("a", "b"), truth, np.arange(COUNT) // 2, {"all_one": np.eye(2)[answers]})
    found = stratum_results(known, mothers, Draws(100))
    assert found["worst_pair"] == found["pairs"][0]["group"] == "machine M2, mothers parous"
    rows = {row["group"]: row["top1_micro"]["point"] for row in found["pairs"]}
    assert rows == {
        "machine M1, mothers nulliparous": 1.0,
        "machine M1, mothers parous": 1.0,
        "machine M2, mothers nulliparous": 1.0,
        "machine M2, mothers parous": 0.0,
    }
    assert {row["group"]: row["top1_micro"]["point"] for row in found["groups"]} == {
        "machine M1": 1.0, "machine M2": 0.5, "mothers nulliparous": 1.0, "mothers parous": 0.5,
    }  # fmt: skip
    # the other band of BMI has two patients, so neither band is a group to compare
    assert (found["left_out"], found["pairs_left_out"]) == (2, 0)


def test_a_pair_that_is_one_of_its_groups_or_small_is_not_shown(
    frames: pd.DataFrame, scored: Scored
) -> None:
    found = stratum_results(scored, frames, Draws(100))
    names = [row["group"] for row in found["pairs"]]
    # all frames of M2 are with overlay, and the smallest pixels are all of M1
    assert set(names) == {
        "machine M1, pixels of 0.167 to 0.233 mm",
        "machine M2, pixels of 0.167 to 0.233 mm",
        "machine M2, pixels above 0.233 mm",
        "pixels of 0.167 to 0.233 mm, with code overlay",
    }
    assert found["pairs_left_out"] == 0
    few = frames.assign(machine=["M1"] * 50 + ["M2"] * 30)
    assert stratum_results(scored, few, Draws(100))["pairs_left_out"] == 1
