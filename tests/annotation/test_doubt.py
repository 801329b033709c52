"""The doubt of proposals: score, agreement with other proposers, and the order of the review."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from review_studies import HEIGHT, WIDTH, make_review_study

from sono.annotation.doubt import with_doubt
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.propose import propose_masks
from sono.annotation.review.decisions import DecisionLog
from sono.annotation.review.queue import Wanted, make_queue
from sono.curation.core.tables import MASKS

FRAME = {"image_id": "a" * 16, "height": 40, "width": 60}


def square(left: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((40, 60), np.bool_)
    mask[10 : 10 + size, left : left + size] = True
    return mask


def row(mask: np.ndarray, source: str, score: float | None, **changes: object) -> dict[str, object]:
    frame = {**FRAME, **{key: changes.pop(key) for key in FRAME if key in changes}}
    structure = str(changes.pop("structure", "fetal head"))
    return mask_row(frame, mask, structure, source, score=score, **changes)


def doubts(*rows: dict[str, object]) -> dict[str, float]:
    table = with_doubt(mask_table(rows), {"a" * 16, "b" * 16})
    return dict(zip(table["source"], table["doubt"], strict=True))


def test_alone_the_doubt_is_what_the_score_leaves() -> None:
    assert doubts(row(square(10), "model", 0.9)) == {"model": pytest.approx(0.1)}
    assert doubts(row(square(10), "model", None)) == {"model": 0.5}


def test_the_lower_of_score_and_agreement_counts() -> None:
    same, half = square(10), square(20)  # Dice 0.5
    assert doubts(row(same, "model", 0.9), row(half, "heuristic", 0.8)) == {
        "model": 0.5, "heuristic": 0.5,
    }  # fmt: skip
    assert doubts(row(same, "model", 0.9), row(same, "heuristic", 0.3)) == {
        "model": pytest.approx(0.1), "heuristic": pytest.approx(0.7),
    }  # fmt: skip


def test_several_sources_are_averaged_and_the_nearest_mask_of_each_counts() -> None:
    found = doubts(
        row(square(10), "model", 1.0),
        row(square(10), "heuristic", 1.0),
        row(square(30), "heuristic", 1.0),
        row(square(20), "sam", 1.0),
    )
    assert found["model"] == pytest.approx(1 - (1 + 0.5) / 2)


@pytest.mark.parametrize(
    "other",
    [
        {"structure": "femur"},
        {"image_id": "b" * 16},
        {"state": "rejected"},
        {"state": "accepted"},
    ],
)
def test_other_structures_frames_and_decided_masks_do_not_count(other: dict[str, object]) -> None:
    found = doubts(row(square(10), "model", 0.9), row(square(35), "heuristic", 0.9, **other))
    assert found["model"] == pytest.approx(0.1)
    assert pd.isna(found["heuristic"]) == (other.get("state") is not None)


def test_masks_of_other_frames_keep_their_doubt() -> None:
    table = with_doubt(mask_table([row(square(10), "model", 0.9)]), {"a" * 16})
    table["score"] = 0.2
    assert with_doubt(table, {"b" * 16})["doubt"].tolist() == table["doubt"].tolist()
    assert with_doubt(table, {"a" * 16})["doubt"].tolist() == pytest.approx([0.8])


def test_propose_stores_it_also_with_the_masks_of_the_other_proposer(tmp_path: Path) -> None:
    study = make_review_study(tmp_path)
    frames = study.accepted_images().to_dict("records")
    far = np.zeros((HEIGHT, WIDTH), np.bool_)
    far[:3, :6] = True
    sure = mask_row(frames[0], far, "fetal head", "model", score=0.95)
    alone = mask_row(frames[2], far, "nasal bone", "model", score=0.95)
    study.write(MASKS, mask_table([sure, alone]))
    propose_masks(study)
    masks = study.masks()
    found = masks.set_index("mask_id")
    other = masks[(masks["image_id"] == sure["image_id"]) & (masks["source"] == "heuristic")]
    assert len(other) == 1 and other["doubt"].item() > 0.9
    assert found.loc[sure["mask_id"], "doubt"] > 0.9
    assert found.loc[alone["mask_id"], "doubt"] == pytest.approx(0.05)


def test_the_review_begins_with_the_highest_doubt(tmp_path: Path) -> None:
    study = make_review_study(tmp_path)
    masks = study.masks()
    images = set(study.accepted_images()["image_id"])
    doubt = np.linspace(0.1, 0.9, len(masks))
    study.write(MASKS, masks.assign(doubt=doubt, score=doubt, state="proposed"))
    queue = make_queue(study, images, DecisionLog(tmp_path / "none.jsonl"), Wanted("W"))
    shown = [item.row["doubt"] for item in queue]
    assert shown == sorted(shown, reverse=True) and len(shown) == len(masks) > 1
