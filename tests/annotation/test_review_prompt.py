"""A new mask for a box or a click in the review, by SAM or without weights."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from review_studies import HEIGHT, WIDTH, make_review_study, opened, running
from sam_models import tiny_sam

from sono.annotation.proposers import OutlineProposer, Prompt
from sono.annotation.sam import SamProposer
from sono.curation.core.rle import decode
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace

TWO_HEADS = ((60, 70, 40, 30), (190, 80, 45, 34))  # x, y and half axes of rings in one frame


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    return make_review_study(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.mark.parametrize("head", TWO_HEADS)
def test_the_box_says_which_head_is_meant(head: tuple[int, int, int, int]) -> None:
    frame = np.random.default_rng(0).integers(5, 60, (150, 250)).astype(np.uint8)
    for x, y, a, b in TWO_HEADS:
        cv2.ellipse(frame, (x, y), (a, b), 0, 0, 360, 230, 4)
    x, y, a, b = head
    box = (x - a - 5, y - b + 3, x + a + 3, y + b + 4)  # as a hand draws it
    found = OutlineProposer().prompted(frame, Prompt("fetal head", box=box))
    assert found is not None and found.structure == "fetal head"
    true = np.zeros(frame.shape, np.uint8)
    cv2.ellipse(true, (x, y), (a + 2, b + 2), 0, 0, 360, 1, -1)
    overlap = (found.mask & (true > 0)).sum() / (found.mask | (true > 0)).sum()
    assert overlap > 0.9
    assert 0 <= found.score <= 1 and 0 <= found.stability <= 1
    assert json.loads(found.prompt or "") == {"type": "box", "xyxy": list(box)}


def test_the_box_says_which_bone_is_meant() -> None:
    frame = np.random.default_rng(0).integers(5, 50, (150, 250)).astype(np.uint8)
    cv2.line(frame, (20, 40), (90, 50), 240, 6)
    cv2.line(frame, (130, 110), (220, 80), 240, 6)
    found = OutlineProposer().prompted(frame, Prompt("femur", box=(125, 72, 226, 118)))
    assert found is not None
    rows, columns = np.nonzero(found.mask)
    assert columns.min() > 110 and abs(rows.mean() - 95) < 6 and abs(columns.mean() - 175) < 8


def test_what_cannot_be_prompted_says_why(study: Workspace) -> None:
    session = opened(study, "Weber")
    with running(session) as page:
        page.open()
        item = page.get("/api/item/0").json()
        assert item["prompts"] == ["box"] and "--checkpoint" in item["no_prompt"]
        for body, why in (
            ({"place": 0, "point": [3, 3]}, "--checkpoint"),
            ({"place": 0}, "one box or one point"),
            ({"place": 0, "box": [0, 0, 5, 5], "point": [3, 3]}, "one box or one point"),
            ({"place": 0, "box": [10, 0, 5, 5]}, "outside of the frame of 61 x 40"),
            ({"place": 0, "box": [0, 0, 62, 5]}, "outside of the frame"),
        ):
            answer = page.post("/api/prompt", body)
            assert (answer.status_code, why in answer.text) == (422, True), answer.text
        assert page.post("/api/prompt", {"place": 9, "point": [3, 3]}).status_code == 404
    masks = study.read(MASKS)
    study.write(MASKS, masks.assign(structure="thalami"))
    assert opened(study, "Weber").item(0)["prompts"] == ()
    assert not session.log.decisions


@pytest.mark.parametrize(
    "given", [{"box": [10, 5, 40, 30]}, {"point": [20, 20]}], ids=("box", "point")
)
def test_the_mask_of_a_prompt_is_stored_with_all_that_makes_it_again(
    study: Workspace, checkpoint: Path, given: dict[str, list[int]]
) -> None:
    session = opened(study, "Weber", checkpoint=checkpoint)
    assert session.item(0)["prompts"] == ("box", "point")
    with running(session) as page:
        page.open()
        bits = page.post("/api/prompt", {"place": 0, **given}).content
    assert not session.log.decisions
    mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=HEIGHT * WIDTH)
    mask = mask.reshape(HEIGHT, WIDTH).astype(np.bool_)
    session.decide(0, 0, "edit", mask)
    row = session.items[0].row
    assert (row["source"], row["state"], row["reviewer"]) == ("sam", "edited", "Weber")
    prompt = json.loads(row["prompt"])
    again = SamProposer.load(checkpoint)
    assert row["model_hash"] == again.model_hash
    kind = {"box": "xyxy", "point": "xy"}[prompt["type"]]
    gray = np.full((HEIGHT, WIDTH), 90, np.uint8)
    made = again.prompted(gray, Prompt("fetal head", **{prompt["type"]: tuple(prompt[kind])}))
    assert np.array_equal(made.mask, decode(row["counts"], HEIGHT, WIDTH))
    session.write()
    assert study.masks()["source"].tolist().count("sam") == 1
    # what is drawn by hand afterwards is no longer the model's
    mask[0, 0] = not mask[0, 0]
    session.decide(0, 1, "edit", mask)
    assert session.items[0].row["prompt"] == row["prompt"]  # of the mask that was edited


def test_a_frame_is_encoded_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proposer = SamProposer.load(checkpoint)
    encoded = []
    real = proposer.model.encode
    monkeypatch.setattr(proposer.model, "encode", lambda gray: encoded.append(1) or real(gray))
    first, second = (np.full((HEIGHT, WIDTH), gray, np.uint8) for gray in (90, 120))
    for frame in (first, first, second, first):
        proposer.prompted(frame, Prompt("femur", point=(9, 9)))
    assert len(encoded) == 3
    proposer.propose(second, None, None, [])
    proposer.prompted(first, Prompt("femur", point=(9, 9)))
    assert len(encoded) == 3
