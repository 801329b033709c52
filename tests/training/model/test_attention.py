import copy

import open_clip
import pytest
import torch
from torch import Tensor, nn

from sono.training.model.architectures import ModelConfig
from sono.training.model.attention import CLSOnlyBlock, SelfAttention, use_fast_attention
from sono.training.model.mask_clip import MaskClip


def pair(batch_first: bool = True) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(32, 4, batch_first=batch_first)
    ours = copy.deepcopy(theirs)
    use_fast_attention(ours)
    assert type(ours) is SelfAttention
    return theirs, ours


def answers(attention: nn.MultiheadAttention, tokens: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """What comes out and the gradients."""
    tokens = tokens.clone().requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        out = attention(tokens, tokens, tokens, need_weights=False, attn_mask=None)[0]
    (out.float() ** 2).sum().backward()
    gradients = [tokens.grad, *(weight.grad for weight in attention.parameters())]
    return [out.float(), *(gradient for gradient in gradients if gradient is not None)]


def apart(one: Tensor, other: Tensor) -> float:
    return float(((one - other).norm() / other.norm()).detach())


def test_in_float32_it_says_and_learns_what_the_parent_does() -> None:
    theirs, ours = pair()
    tokens = torch.randn(3, 7, 32)
    for one, other in zip(
        answers(ours, tokens, torch.float32), answers(theirs, tokens, torch.float32), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_in_bfloat16_it_is_no_further_from_float32_than_the_fused_kernel() -> None:
    theirs, ours = pair()
    tokens = torch.randn(3, 7, 32)
    exact = answers(copy.deepcopy(theirs), tokens, torch.float32)
    mine, fused = answers(ours, tokens, torch.bfloat16), answers(theirs, tokens, torch.bfloat16)
    for one, other, true in zip(mine, fused, exact, strict=True):
        assert apart(one, true) < max(1.5 * apart(other, true), 0.01)


@pytest.mark.parametrize("hidden", [None, torch.full((5, 5), float("-inf")).triu(1)])
def test_what_is_no_plain_self_attention_goes_to_the_parent(hidden: Tensor | None) -> None:
    theirs, ours = pair(batch_first=hidden is not None)
    tokens = torch.randn(5, 5, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        told = [
            one(tokens, tokens, tokens, need_weights=False, attn_mask=hidden)[0]
            for one in (ours, theirs)
        ]
    assert torch.equal(*told)


def test_the_vision_tower_has_it_under_the_same_names() -> None:
    model = MaskClip(ModelConfig(name="ViT-S-32-alt", image_size=64))
    kinds = {
        type(module)
        for module in model.towers.visual.modules()
        if isinstance(module, nn.MultiheadAttention)
    }
    assert kinds == {SelfAttention}
    assert "towers.visual.transformer.resblocks.0.attn.in_proj_weight" in model.state_dict()


def tower(**changes: object) -> nn.Module:
    torch.manual_seed(0)
    settings = {
        "image_size": 32,
        "patch_size": 8,
        "width": 64,
        "layers": 3,
        "heads": 4,
        "mlp_ratio": 2.0,
    }
    return open_clip.transformer.VisionTransformer(**settings | changes)  # type: ignore[no-any-return]


def features_and_gradients(vision: nn.Module, frames: Tensor, dtype: torch.dtype) -> list[Tensor]:
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        features = vision(frames)
    (features.float() ** 2).sum().backward()
    return [
        features.float(),
        *(weight.grad for weight in vision.parameters() if weight.grad is not None),
    ]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_a_last_block_that_answers_for_one_token_changes_no_feature_and_no_gradient(
    dtype: torch.dtype, bound: float
) -> None:
    theirs, ours = tower(), tower()
    use_fast_attention(ours)
    assert type(ours.transformer.resblocks[-1]) is CLSOnlyBlock  # type: ignore[union-attr,index]
    frames = torch.randn(2, 3, 32, 32)
    exact = features_and_gradients(theirs, frames, torch.float32)
    told = features_and_gradients(ours, frames, dtype)
    assert len(told) == len(exact) == len(list(ours.parameters())) + 1
    assert max(apart(one, true) for one, true in zip(told, exact, strict=True)) < bound
    assert torch.allclose(ours.eval()(frames), theirs.eval()(frames), atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"pool_type": "avg"}, {"output_tokens": True}, {"attentional_pool": True}]
)
def test_a_tower_that_looks_at_all_tokens_keeps_its_last_block(changes: dict[str, object]) -> None:
    vision = tower(**changes)
    use_fast_attention(vision)
    assert not any(isinstance(module, CLSOnlyBlock) for module in vision.modules())
