import pytest
import torch

from sono.curation.core.errors import SonoError
from sono.training.model.architectures import ModelConfig
from sono.training.model.freeze import set_trainable
from sono.training.model.mask_clip import MaskClip

ALWAYS = {"logit_scale", "logit_bias"}
VIT = {"layers": 3, "width": 64, "head_width": 64, "patch_size": 8, "image_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
ARCHITECTURE = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT}
STEM = {"towers.visual.conv1.mask.weight", "towers.visual.conv1.depthwise.weight"}
HEADS = {"towers.visual.proj", "towers.text.text_projection"}


@pytest.fixture
def vit() -> MaskClip:
    return MaskClip(ModelConfig(architecture=ARCHITECTURE))


@pytest.fixture
def nano() -> MaskClip:
    return MaskClip(ModelConfig(name="nano", image_size=32))


def learning(model: MaskClip) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_heads_are_the_projections_and_what_is_new(vit: MaskClip) -> None:
    count = set_trainable(vit, "heads")
    assert learning(vit) == ALWAYS | STEM | HEADS
    assert count == 2 + 64 * 64 + 64 * 9 + 2 * 64 * 16


def test_last_blocks_come_with_all_that_follows_them(vit: MaskClip) -> None:
    set_trainable(vit, "last:1")
    block = {
        f"towers.visual.transformer.resblocks.2.{name}"
        for name, _ in vit.towers.visual.transformer.resblocks[2].named_parameters()
    }
    assert learning(vit) == ALWAYS | STEM | HEADS | block | {
        "towers.visual.ln_post.weight",
        "towers.visual.ln_post.bias",
    }


def test_vision_leaves_the_text_tower_alone(vit: MaskClip) -> None:
    set_trainable(vit, "vision")
    assert learning(vit) == ALWAYS | {
        name for name, _ in vit.named_parameters() if name.startswith("towers.visual.")
    }


def test_all_takes_a_freeze_back(vit: MaskClip) -> None:
    set_trainable(vit, "heads")
    assert set_trainable(vit, "all") == sum(weight.numel() for weight in vit.parameters())


def test_a_convolutional_tower_has_stages(nano: MaskClip) -> None:
    set_trainable(nano, "last:2")
    trunk = {
        name.split(".")[3]
        for name in learning(nano)
        if name.startswith("towers.visual.trunk.layer")
    }
    assert trunk == {"layer3", "layer4"}
    with pytest.raises(SonoError, match="last:5: the vision tower of 'nano' has 4 blocks"):
        set_trainable(nano, "last:5")


def test_an_unknown_preset_lists_the_known(vit: MaskClip) -> None:
    with pytest.raises(SonoError, match="'head'; known: heads, last:N, vision, all"):
        set_trainable(vit, "head")


def test_frozen_stages_keep_their_statistics_while_the_rest_trains(nano: MaskClip) -> None:
    set_trainable(nano, "last:1")
    nano.train()
    before = {name: value.clone() for name, value in nano.named_buffers() if "running_mean" in name}
    nano.encode_image(torch.rand(4, 1, 32, 32), torch.ones(4, 1, 32, 32))
    moved = {
        name
        for name, value in nano.named_buffers()
        if name in before and not torch.equal(value, before[name])
    }
    assert moved
    assert all("layer4" in name for name in moved)
