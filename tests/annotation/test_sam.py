"""A real SAM, built small with random weights, saved, loaded and prompted."""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sam_models import tiny_sam
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from sono.annotation.proposers import Box
from sono.annotation.sam import SamProposer, stability_of, widen
from sono.annotation.sam_models.torch_sam import build_sam
from sono.curation.core.errors import SonoError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8)


def sizes(model: Sam) -> tuple[object, ...]:
    encoder = model.image_encoder
    blocks = [(block.window_size, block.attn.num_heads) for block in encoder.blocks]
    return (
        encoder.img_size,
        blocks,
        model.prompt_encoder.image_embedding_size,
        model.prompt_encoder.input_image_size,
    )


@pytest.mark.parametrize(("window", "patch", "heads"), [(3, 8, 2), (5, 16, 4)])
def test_sizes_are_read_from_the_weights(window: int, patch: int, heads: int) -> None:
    given = tiny_sam(window, patch, heads)
    built = build_sam(given.state_dict())
    assert sizes(built) == sizes(given)
    assert all(
        torch.equal(value, given.state_dict()[key]) for key, value in built.state_dict().items()
    )


def test_the_published_vit_b_is_recognized() -> None:
    with torch.device("meta"):
        published = sam_model_registry["vit_b"]()
        built = build_sam(published.state_dict())
    assert sizes(built) == sizes(published)


def test_each_box_gives_its_mask_with_the_best_quality(checkpoint: Path) -> None:
    proposer = SamProposer.load(checkpoint)
    boxes = [Box("femur", 10, 10, 30, 20), Box("fetal head", 0, 0, 60, 40)]
    found = proposer.propose(picture(), "femur", None, boxes)
    assert {each.structure for each in found} <= {"femur", "fetal head"}
    assert found
    for each in found:
        assert each.mask.shape == (40, 60)
        assert 0 <= each.score <= 1
        assert 0 <= each.stability <= 1
        assert json.loads(each.prompt or "")["type"] == "box"


def test_the_prompt_is_the_widened_box(checkpoint: Path) -> None:
    found = SamProposer.load(checkpoint, margin=0.1).propose(
        picture(), None, None, [Box("femur", 10, 10, 30, 20)]
    )
    assert json.loads(found[0].prompt or "")["xyxy"] == [8, 9, 32, 21]


def test_without_boxes_and_plane_nothing_is_proposed(checkpoint: Path) -> None:
    assert SamProposer.load(checkpoint).propose(picture(), None, None, ()) == []


def test_without_boxes_the_outline_of_the_plane_prompts(checkpoint: Path) -> None:
    found = SamProposer.load(checkpoint).propose(picture(), "femur", None, ())
    assert [each.structure for each in found] == ["femur"]


def test_the_hash_is_that_of_the_file(checkpoint: Path) -> None:
    assert (
        SamProposer.load(checkpoint).model_hash
        == hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    )


def test_the_same_frame_gives_the_same_mask(checkpoint: Path) -> None:
    boxes = [Box("femur", 10, 10, 30, 20)]
    first, second = (
        SamProposer.load(checkpoint).propose(picture(), None, None, boxes)[0] for _ in range(2)
    )
    assert np.array_equal(first.mask, second.mask)


def test_unit_pixels_change_what_the_model_sees(checkpoint: Path) -> None:
    boxes = [Box("femur", 10, 10, 30, 20)]
    sam, unit = (
        SamProposer.load(checkpoint, pixels=kind).propose(picture(), None, None, boxes)
        for kind in ("sam", "unit")
    )
    assert sam[0].score != unit[0].score


@pytest.mark.parametrize("container", ["model", "state_dict", "model_state_dict", ""])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_wrapped_and_parallel_checkpoints_load(tmp_path: Path, container: str, prefix: str) -> None:
    state = {f"{prefix}{key}": value for key, value in tiny_sam().state_dict().items()}
    torch.save({container: state, "epoch": 3} if container else state, tmp_path / "wrapped.pth")
    assert SamProposer.load(tmp_path / "wrapped.pth").source == "sam"


@pytest.mark.parametrize(
    ("extra", "asked"),
    [(argparse.Namespace(lr=1), "argparse.Namespace"), (np.float64(0.1), "numpy")],
)
def test_a_refused_pickle_names_what_it_asks_for(tmp_path: Path, extra: object, asked: str) -> None:
    torch.save({"model": tiny_sam().state_dict(), "extra": extra}, tmp_path / "more.pth")
    with pytest.raises(
        SonoError, match=f"it asks for {asked}.*Save its state_dict alone"
    ) as caught:
        SamProposer.load(tmp_path / "more.pth")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    state = tiny_sam().state_dict()
    del state["mask_decoder.iou_token.weight"]
    with pytest.raises(SonoError, match=r"^the weights do not fit .*iou_token"):
        build_sam(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(SonoError, match=r"other\.pth: the weights do not fit"):
        SamProposer.load(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [{"weight": torch.zeros(2)}, [1, 2], {"model": 3}])
def test_another_checkpoint_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(SonoError, match="MedSAM") as caught:
        SamProposer.load(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n", b"a,b\n1,2\n", b"cos\nsystem\n(S'true'\ntR."]
)
def test_a_file_that_is_no_checkpoint_is_refused_and_never_run(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(SonoError, match="not a checkpoint"):
        SamProposer.load(tmp_path / "file.pth")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="no such file"):
        SamProposer.load(tmp_path / "none.pth")


def test_stability_compares_two_thresholds() -> None:
    assert stability_of(np.array([-2.0, -0.5, 0.5, 1.5])) == pytest.approx(1 / 3)
    assert stability_of(np.full(4, -3.0)) == 0.0


def test_a_box_grows_within_the_frame() -> None:
    assert widen(Box("femur", 2, 10, 52, 30), 0.1, (40, 55)) == ("femur", 0, 8, 55, 32)
