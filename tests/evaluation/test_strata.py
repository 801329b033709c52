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
    assert points["machine M1"] == points["without overlay"] == 1.0
    assert points["machine M2"] == points["with overlay"] == 0.5
    assert (rows["with overlay"]["images"], rows["with overlay"]["clusters"]) == (40, 20)
    assert found["worst"] in ("machine M2", "with overlay", "pixels above 0.233 mm")
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
    }
