"""The segmenter: its model, what it learns from, its file, and its proposals."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from sono.annotation.masks import mask_row, mask_table
from sono.annotation.propose import propose_masks
from sono.annotation.segmenter import fit
from sono.annotation.segmenter.config import SegmenterConfig
from sono.annotation.segmenter.examples import Examples, load_examples, usable_masks
from sono.annotation.segmenter.files import FILE, SegmenterInfo, load_segmenter, save_segmenter
from sono.annotation.segmenter.fit import segmentation_loss, shaken, train_segmenter
from sono.annotation.segmenter.model import Segmenter
from sono.annotation.segmenter.proposer import in_frame, main_parts
from sono.annotation.weights.image_weights import FILES
from sono.curation.core.errors import SonoError, StoppedError
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.geometry import letterbox_mask
from sono.curation.core.rle import decode
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace

QUICK = SegmenterConfig(image_size=64, steps=60, batch_size=8, rate=4e-3)
PLANES = {"transthalamic": "fetal head", "abdominal_circumference": "fetal abdomen"}
needs_weights = pytest.mark.skipif(
    find_spec(FILES["lite0"].package) is None, reason="the extra pretrained is not installed"
)


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame [90, 120] of noise with a bright ellipse somewhere, and its mask."""
    rng = np.random.default_rng(number)
    frame = rng.integers(5, 60, (90, 120)).astype(np.uint8)
    mask = np.zeros(frame.shape, np.uint8)
    place = (int(rng.integers(40, 80)), int(rng.integers(35, 55)))
    cv2.ellipse(mask, place, (int(rng.integers(18, 30)), 20), 5, 0, 360, 1, -1)
    frame[mask > 0] += np.uint8(120 if number % 2 else 170)
    return frame, mask > 0


def make_study(folder: Path, count: int = 32, center: str | None = None) -> Workspace:
    """Frames of two planes with one accepted mask each; a quarter each for validation and test."""
    workspace = Workspace.create(folder / "study")
    rows: list[dict[str, Any]] = []
    masks = []
    for number in range(count):
        frame, mask = drawn(number)
        plane = list(PLANES)[number % 2]
        file = frame_file(f"{number:016x}", frame)
        (workspace.root / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / file).write_bytes(encode_png(frame))
        row = {
            "image_id": f"{number:016x}", "source_id": f"s{number}", "frame": 0,
            "status": "accepted", "plane": plane, "height": 90, "width": 120, "file": file,
            "patient_id": f"p{number}", "center": center,
            "split": ("train", "train", "val", "test")[number // 2 % 4],
        }  # fmt: skip
        rows.append(row)
        if row["split"] != "test":
            masks.append(mask_row(row, mask, PLANES[plane], "manual", state="accepted"))
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    workspace.write(MASKS, mask_table(masks))
    return workspace


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@needs_weights
def test_it_learns_and_its_proposals_meet_frames_that_it_has_not_seen(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    summary = train_segmenter(study, "seg", config=QUICK)
    assert (summary.train_frames, summary.val_frames) == (16, 8)
    assert summary.mean_dice is not None and summary.mean_dice > 0.85
    found = propose_masks(study, segmenter=summary.file.parent)
    masks = study.masks()
    new = masks[masks["source"] == "model"]
    assert found.model_hash is not None and (new["model_hash"] == found.model_hash).all()
    test = {f"{number:016x}": number for number in range(32) if number // 2 % 4 == 3}
    scores, stated = [], []
    for row in new[new["image_id"].isin(list(test))].to_dict("records"):
        number = test[str(row["image_id"])]
        assert row["structure"] == PLANES[list(PLANES)[number % 2]]
        mask = decode(row["counts"], 90, 120)
        scores.append(dice(mask, drawn(number)[1]))
        stated.append(row["score"])
    assert len(scores) == len(test) and np.mean(scores) > 0.85
    assert all(0.5 < score <= 1 for score in stated)
    assert propose_masks(study, segmenter=summary.file).proposed == 0  # known by its hash


@pytest.mark.parametrize(("others", "side"), [(1, 20), (50, 20), (50, 8)])
def test_a_missed_mask_counts_as_much_if_it_is_small_or_one_of_many(others: int, side: int) -> None:
    masks = np.zeros((1, 1 + others, 64, 64), np.bool_)
    masks[0, 0, 20 : 20 + side, 30 : 30 + side] = True
    drawn = masks.any(axis=(2, 3))
    packed = np.packbits(masks.reshape(1, -1), axis=1)
    frame = np.zeros((1, 64, 64), np.uint8)
    examples = Examples(frame, packed, np.ones_like(drawn), drawn, {})

    def missed(frames: torch.Tensor) -> torch.Tensor:
        return torch.full((len(frames), 1 + others, 64, 64), -8.0)

    draw = torch.Generator().manual_seed(0)
    loss = segmentation_loss(missed, examples, np.array([0]), draw)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(1 + 0.2 * 8, rel=0.15)  # 1 - Dice, and the cross-entropy


@pytest.mark.slow
@needs_weights
def test_masks_of_other_frames_teach_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    masks = study.masks()
    images = study.images().set_index("image_id")
    wrong = []
    for row in masks.to_dict("records"):
        other = drawn(int(str(row["image_id"]), 16) + 1000)[1]
        image = {"image_id": row["image_id"], **images.loc[str(row["image_id"])].to_dict()}
        wrong.append(mask_row(image, other, str(row["structure"]), "manual", state="accepted"))
    study.write(MASKS, mask_table(wrong))
    summary = train_segmenter(study, "seg", config=QUICK)
    assert summary.mean_dice is not None and summary.mean_dice < 0.8


@needs_weights
def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    study = make_study(tmp_path, 16)
    short = QUICK.model_copy(update={"steps": 2})
    one, two = (train_segmenter(study, name, config=short).file for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@needs_weights
def test_a_center_that_is_held_out_is_not_seen(tmp_path: Path) -> None:
    study = make_study(tmp_path, 16)
    images = study.images()
    images["center"] = ["A", "B"] * 8
    study.write(IMAGES, images)
    short = QUICK.model_copy(update={"steps": 1})
    summary = train_segmenter(study, "seg", hold_out=("B",), config=short)
    _, info, _ = load_segmenter(summary.file)
    assert summary.structures == ("fetal head",) and info.held_out == ["B"]
    assert set(info.image_ids_seen) <= set(images.loc[images["center"] == "A", "image_id"])


@needs_weights
def test_an_interrupted_training_says_that_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path, 16)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "mean_dice", interrupted)
    short = QUICK.model_copy(update={"steps": 2})
    with pytest.raises(StoppedError, match="nothing of runs/seg was kept") as caught:
        train_segmenter(study, "seg", config=short)
    assert caught.value.exit_code == 130
    monkeypatch.undo()
    assert train_segmenter(study, "seg", config=short).file.is_file()  # the name is free


@needs_weights
def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    study = make_study(tmp_path, 16)
    wild = QUICK.model_copy(update={"rate": 1e30})
    with pytest.raises(SonoError, match="not finite; set a lower `rate`"):
        train_segmenter(study, "seg", config=wild)
    assert not (study.runs / "seg").exists()


@needs_weights
def test_a_run_that_cannot_be_written_ends_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path, 16)
    study.runs.write_text("a file")
    monkeypatch.setattr(fit, "_fit", lambda *_: pytest.fail("it trains"))
    with pytest.raises(NotADirectoryError):
        train_segmenter(study, "seg", config=QUICK)


@needs_weights
def test_without_validation_frames_the_quality_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path, 16)
    images = study.images()
    study.write(IMAGES, images.assign(split=images["split"].replace("val", "train")))
    summary = train_segmenter(study, "seg", config=QUICK.model_copy(update={"steps": 2}))
    assert summary.val_frames == 0 and summary.mean_dice is None and summary.best_step == 2
    assert "nothing shows how good it is" in " ".join(capsys.readouterr().err.split())


@needs_weights
def test_a_segmenter_that_finds_nothing_is_not_taken_for_missing_planes(tmp_path: Path) -> None:
    study = make_study(tmp_path, 16)
    trained = train_segmenter(study, "seg", config=QUICK.model_copy(update={"steps": 1})).file
    model, info, _ = load_segmenter(trained)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    weights["head.bias"] -= 100
    save_segmenter(study.runs / "none" / FILE, weights, info)
    summary = propose_masks(study, segmenter=study.runs / "none")
    with pytest.raises(SonoError, match=r"nothing was proposed for 16 frames.*train it longer"):
        summary.refuse_nothing()


def test_what_a_frame_says_of_a_structure(tmp_path: Path) -> None:
    study = make_study(tmp_path, 16)
    frames, names = study.accepted_images(), ["fetal abdomen", "fetal head"]
    masks = usable_masks(study.masks(), frames)
    found = load_examples(study, frames, masks, names, 64)
    assert found.known.all()  # a plane of heads says that there is no abdomen
    assert (found.drawn.sum(axis=1) == 1).all()
    frame = int(str(sorted(masks["image_id"])[0]), 16)
    expected = letterbox_mask(drawn(frame)[1], 64)
    assert (found.masks_of(np.array([0]))[0].any(axis=0) == expected).all()
    frames["plane"] = None
    assert not load_examples(study, frames, masks, names, 64).known.all()


def test_frames_and_masks_move_together() -> None:
    square = torch.zeros(6, 1, 64, 64)
    square[:, :, 20:40, 10:30] = 1
    frames, masks = shaken(square, square.clone(), torch.Generator().manual_seed(1))
    assert torch.allclose(frames > 0.5, masks > 0.5) or (
        ((frames > 0.5) ^ (masks > 0.5)).float().mean() < 0.02  # gamma moves the edge a little
    )
    assert not torch.equal(masks[0], masks[1])


def test_logits_have_the_size_of_the_frames() -> None:
    assert Segmenter(3).eval()(torch.rand(2, 1, 96, 96)).shape == (2, 3, 96, 96)


@pytest.mark.parametrize("size", [(90, 120), (121, 64), (77, 77)])
def test_a_map_returns_to_the_pixels_of_its_frame(size: tuple[int, int]) -> None:
    mask = np.zeros(size, np.bool_)
    mask[20:50, 15:50] = True
    square = letterbox_mask(mask, 64).astype(np.float32)
    assert dice(in_frame(square, *size) > 0.5, mask) > 0.93


def test_parts_that_are_much_smaller_than_the_largest_are_left_out() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[5:25, 5:25] = mask[40:52, 40:52] = mask[30:33, 30:33] = True
    kept = main_parts(mask)
    assert kept[10, 10] and kept[45, 45] and not kept[31, 31]


def test_nothing_to_learn_is_one_line(tmp_path: Path) -> None:
    study = make_study(tmp_path, 8)
    with pytest.raises(SonoError, match="did you mean 'fetal head'"):
        train_segmenter(study, "seg", ["fetal hed"])
    masks = study.masks()
    masks["state"] = "proposed"
    study.write(MASKS, masks)
    with pytest.raises(SonoError, match="sono masks review"):
        train_segmenter(study, "seg")
    (study.runs / "taken").mkdir(parents=True)
    (study.runs / "taken/run.json").write_text("{}")
    with pytest.raises(SonoError, match="another --name"):
        train_segmenter(study, "taken")
    for name in ("../out", ".", "..", "a/b"):
        with pytest.raises(SonoError, match="not a plain folder name"):
            train_segmenter(study, name)
    with pytest.raises(ValidationError, match="seed"):
        SegmenterConfig(seed=2**63)


@pytest.mark.parametrize(
    "damage", ["missing", "cut", "other", "values", "deep", "shapes", "folder"]
)
def test_a_file_that_is_no_segmenter_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / FILE
    meta = (
        '{"structures": ["fetal head"], "image_size": 64, "planes": {}, "image_ids_seen": [], '
        '"held_out": [], "settings": {}}'
    )
    weights = Segmenter(2 if damage == "shapes" else 1).state_dict()
    texts = {"values": meta[:30], "deep": "[" * 100_000}
    kept = {} if damage == "other" else {"sono_segmenter": texts.get(damage, meta)}
    save_file(weights, path, kept)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "folder":
        path = tmp_path / "nothing"
        path.mkdir()
    with pytest.raises(SonoError, match=r"segmenter\.safetensors"):
        load_segmenter(path)


def test_a_segmenter_of_structures_that_the_study_does_not_know_proposes_nothing(
    tmp_path: Path,
) -> None:
    study = make_study(tmp_path, 4)
    before = study.path(MASKS).read_bytes()
    info = SegmenterInfo(
        structures=["A. Smith"], image_size=64, planes={}, image_ids_seen=[], held_out=[],
        settings={},
    )  # fmt: skip
    model = Segmenter(1)
    with torch.no_grad():
        model.head.bias.fill_(20)
    save_segmenter(tmp_path / FILE, model.state_dict(), info)
    with pytest.raises(SonoError, match=r"segmenter\.safetensors: finds 'A. Smith', which is no"):
        propose_masks(study, segmenter=tmp_path / FILE)
    assert study.path(MASKS).read_bytes() == before
