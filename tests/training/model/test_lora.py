from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sono.curation.core.errors import SonoError
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import ADAPTERS, load_weights, restore, save_model
from sono.training.model.freeze import set_trainable
from sono.training.model.lora import LowRank, adapter_state, add_lora, load_adapters, merge_lora
from sono.training.model.mask_clip import MaskClip

VIT = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
ARCHITECTURE = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT}


def plain() -> MaskClip:
    torch.manual_seed(0)
    return MaskClip(ModelConfig(architecture=ARCHITECTURE)).eval()


def adapted(moved: bool = True) -> MaskClip:
    model = plain()
    set_trainable(model, "heads")
    # in_proj, out_proj, c_fc and c_proj of two blocks
    assert add_lora(model, rank=4, alpha=8.0) == 8
    if moved:
        for module in model.modules():
            if isinstance(module, LowRank):
                torch.nn.init.normal_(module.up, std=0.1)
    return model


def features(model: MaskClip) -> torch.Tensor:
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.encode_image(image, torch.ones_like(image))


def test_adapters_change_nothing_before_training() -> None:
    # a new matrix, elsewhere
    assert torch.allclose(features(adapted(moved=False)), features(plain()), atol=2e-6)


@torch.no_grad()
def test_an_adapted_matrix_is_the_sum_written_out() -> None:
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    layer = LowRank(weight, rank=2, alpha=6.0)
    torch.nn.init.normal_(layer.up)
    written = [
        [
            float(weight[i, j])
            + 3.0 * sum(float(layer.up[i, r] * layer.down[r, j]) for r in range(2))
            for j in range(3)
        ]
        for i in range(5)
    ]
    assert torch.allclose(layer(weight), torch.tensor(written), atol=1e-5)


def test_merged_and_unmerged_give_the_same_features() -> None:
    model = adapted()
    before = features(model)
    assert (before - features(plain())).abs().max() > 0.01
    merged = merge_lora(model)
    assert (features(merged) - before).abs().max() < 1e-5
    assert merged.state_dict().keys() == plain().state_dict().keys()


@pytest.mark.parametrize("training", [True, False])
def test_only_the_adapters_and_the_heads_get_gradients(training: bool) -> None:
    model = adapted().train(training)
    model.encode_image(torch.rand(2, 1, 32, 32), torch.ones(2, 1, 32, 32)).square().sum().backward()
    got = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert len([name for name in got if name.endswith((".up", ".down"))]) == 16
    assert not [name for name in got if name.endswith(".original")]
    assert all(weight.requires_grad for name, weight in model.named_parameters() if name in got)


def test_a_checkpoint_holds_the_merged_model_and_the_adapters_apart(tmp_path: Path) -> None:
    model = adapted()
    save_model(tmp_path, model)
    assert (features(load_weights(tmp_path)) - features(model)).abs().max() < 1e-5
    apart = load_file(tmp_path / ADAPTERS)
    assert sum(value.numel() for value in apart.values()) < 0.2 * sum(
        w.numel() for w in model.towers.visual.parameters()
    )
    again = adapted(moved=False)
    restore(tmp_path, again)
    assert torch.equal(features(again), features(model))


def test_adapters_of_another_rank_are_refused() -> None:
    other = plain()
    set_trainable(other, "heads")
    add_lora(other, rank=2, alpha=8.0)
    with pytest.raises(SonoError, match="the adapters are of another model or rank"):
        load_adapters(other, adapter_state(adapted()))


def test_a_damaged_adapter_file_is_told(tmp_path: Path) -> None:
    model = adapted()
    save_model(tmp_path, model)
    (tmp_path / ADAPTERS).write_bytes(b"\0" * 20)
    with pytest.raises(SonoError, match=r"lora.safetensors: missing or damaged"):
        restore(tmp_path, model)


def test_a_tower_without_matrices_says_so() -> None:
    with pytest.raises(SonoError, match="no attention or MLP for LoRA"):
        add_lora(MaskClip(ModelConfig(name="nano", image_size=32)), 4, 8.0)


def test_a_timm_transformer_is_adapted_too() -> None:
    model = MaskClip(
        ModelConfig(
            name="ViT-B-16-SigLIP",
            image_size=32,
            architecture={
                "embed_dim": 192,
                "vision_cfg": {
                    "timm_model_name": "vit_tiny_patch16_224",
                    "timm_pool": "token",
                    "timm_proj": "linear",
                    "image_size": 32,
                },
                "text_cfg": TEXT,
            },
        )
    )
    assert add_lora(model, 4, 8.0) == 12 * 4
