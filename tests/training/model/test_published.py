import json
import warnings
from pathlib import Path

import pytest
import torch
from clip_files import (
    ARCHITECTURE,
    random_clip,
    vision_weights,
    write_bert,
    write_openai,
    write_sonoclip,
)
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import conv2d

from sono.curation.core.errors import SonoError
from sono.training.model.checkpoints import load_sonoclip
from sono.training.model.published import load_published

MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))[:, None, None]
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))[:, None, None]


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return random_clip()


@pytest.fixture(scope="module")
def base(clip: CLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_openai(tmp_path_factory.mktemp("base") / "clip.pt", clip)


def drawn(seed: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(seed))


class Stem(nn.Module):
    """The published stem, written out, with the mask put in beforehand."""

    def __init__(self, weights: dict[str, torch.Tensor], mask: torch.Tensor) -> None:
        super().__init__()
        self.weights, self.mask = weights, mask

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = conv2d(image, self.weights["conv1.weight"], stride=8)
        seen = seen + conv2d((self.mask - 0.5) / 0.26, self.weights["conv1_alpha.weight"], stride=8)
        return conv2d(seen, self.weights["dwconv.weight"], padding=1, groups=64)


def test_a_sonoclip_pair_gives_the_features_of_the_published_equations(
    base: Path, tmp_path: Path
) -> None:
    clip, image, mask = random_clip(), drawn(1), (drawn(2, 1) > 0.5).float()
    model = load_sonoclip(base, write_sonoclip(tmp_path / "v.pth", clip))
    clip.visual.conv1 = Stem(vision_weights(clip), mask)
    with torch.inference_mode():
        assert torch.allclose(
            model.encode_image(image, mask), clip.visual((image - MEAN) / STD), atol=1e-4
        )
        gray = image[:, :1]
        same = clip.visual((gray - MEAN) / STD)
        assert torch.allclose(model.encode_image(gray, mask), same, atol=1e-4)
        tokens = model.tokenize(["a fetal femur", "a head"])
        assert torch.allclose(model.encode_text(tokens), clip.encode_text(tokens), atol=1e-4)
    assert (model.logit_scale.item(), model.logit_bias.item()) == (pytest.approx(2.4), -9.5)


def test_alpha_clip_has_no_depthwise_filters(clip: CLIP, base: Path, tmp_path: Path) -> None:
    torch.save(vision_weights(clip, depthwise=False), tmp_path / "alpha.pth")
    model, kind = load_published(tmp_path / "alpha.pth", base)
    assert kind == "Alpha-CLIP"
    identity = nn.init.dirac_(torch.empty(64, 1, 3, 3), groups=64)
    assert torch.equal(model.stem.depthwise.weight, identity)
    assert torch.equal(model.stem.mask.weight, vision_weights(clip)["conv1_alpha.weight"])


def same_features(model: nn.Module, clip: CLIP) -> bool:
    image, mask = drawn(3), torch.ones(2, 1, 32, 32)
    with torch.inference_mode():
        tokens = model.tokenize(["a fetal femur"])
        pictures = torch.allclose(
            model.encode_image(image, mask), clip.encode_image((image - MEAN) / STD), atol=1e-4
        )
        return pictures and torch.allclose(
            model.encode_text(tokens), clip.encode_text(tokens), atol=1e-4
        )


def test_openai_clip_is_read_off_its_shapes(clip: CLIP, base: Path) -> None:
    model, kind = load_published(base)
    assert kind == "CLIP"
    assert same_features(model, clip)
    assert model.logit_bias.item() == -10.0


def test_openai_clip_as_torchscript_is_read_without_running_it(clip: CLIP, tmp_path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(
            clip, (drawn(1), torch.ones(2, 77, dtype=torch.int64)), check_trace=False
        )
        traced.save(str(tmp_path / "ViT.pt"))
    assert same_features(load_published(tmp_path / "ViT.pt")[0], clip)


@pytest.mark.parametrize("way", ["wrapped", "safetensors", "text tower apart"])
def test_open_clip_checkpoints_come_with_their_configuration(way: str, tmp_path: Path) -> None:
    clip = random_clip(quick_gelu=False)
    path, weights = (
        tmp_path / "weights.pt",
        {name: value.clone() for name, value in clip.state_dict().items()},
    )
    if way == "wrapped":
        torch.save(
            {
                "epoch": 3,
                "state_dict": {f"module.{name}": value for name, value in weights.items()},
            },
            path,
        )
    elif way == "safetensors":
        save_file(weights, path)
    else:
        torch.save(
            {
                n if n.startswith(("visual.", "logit")) else f"text.{n}": v
                for n, v in weights.items()
            },
            path,
        )
    (tmp_path / "config.json").write_text(json.dumps(ARCHITECTURE))
    model, _ = load_published(path, architecture=str(tmp_path / "config.json"))
    assert same_features(model, clip)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("container", ["state_dict", "model", ""])
def test_what_training_scripts_put_around_the_weights_is_taken_off(
    prefix: str, container: str, clip: CLIP, tmp_path: Path
) -> None:
    state = {f"{prefix}{name}": value for name, value in clip.state_dict().items()}
    torch.save(
        {container: state, "epoch": 1, "optimizer": {}} if container else state,
        tmp_path / "epoch_1.pt",
    )
    model, kind = load_published(tmp_path / "epoch_1.pt")
    assert kind == "CLIP"
    with torch.inference_mode():
        tokens = model.tokenize(["a fetal femur"])
        assert torch.allclose(model.encode_text(tokens), clip.encode_text(tokens), atol=1e-4)


def test_a_prefix_of_some_names_alone_stays(clip: CLIP, tmp_path: Path) -> None:
    first, *others = clip.state_dict().items()
    torch.save(
        dict([first, *((f"module.{name}", value) for name, value in others)]), tmp_path / "odd.pt"
    )
    with pytest.raises(SonoError, match="architecture"):
        load_published(tmp_path / "odd.pt")


def test_pixel_statistics_come_with_the_configuration(base: Path, tmp_path: Path) -> None:
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.25]}
    config = {"model_cfg": ARCHITECTURE | {"quick_gelu": True}, "preprocess_cfg": pixels}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model, _ = load_published(base, architecture=str(tmp_path / "open_clip_config.json"))
    assert model.pixel_mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.pixel_std.flatten().tolist() == [0.5, 0.5, 0.25]


def test_a_missing_key_is_named(base: Path, clip: CLIP, tmp_path: Path) -> None:
    path = write_sonoclip(tmp_path / "v.pth", clip, **{"ln_post.bias": None})
    with pytest.raises(
        SonoError, match=r"v.pth: not the weights of 'ViT-64-8-32': missing visual.ln_post.bias$"
    ):
        load_sonoclip(base, path)


def test_a_key_left_over_is_named(base: Path, clip: CLIP, tmp_path: Path) -> None:
    path = write_sonoclip(
        tmp_path / "v.pth", clip, **{"transformer.resblocks.0.attn.lora_A": torch.ones(2)}
    )
    with pytest.raises(SonoError, match=r"left over visual.transformer.resblocks.0.attn.lora_A$"):
        load_sonoclip(base, path)


def test_another_architecture_is_told_by_its_shapes(base: Path) -> None:
    with pytest.raises(
        SonoError,
        match=r"not the weights of 'ViT-S-32-alt': missing .* and \d+ more; .*another shape",
    ):
        load_published(base, architecture="ViT-S-32-alt")


def test_a_text_tower_of_another_width_does_not_fit(clip: CLIP, tmp_path: Path) -> None:
    other = {
        name: value for name, value in clip.state_dict().items() if not name.startswith("visual.")
    }
    torch.save(other | {"text_projection": torch.ones(64, 24)}, tmp_path / "base.pt")
    with pytest.raises(
        SonoError, match=r"another shape text.text_projection \[64, 24\] for \[64, 16\]"
    ):
        load_sonoclip(tmp_path / "base.pt", write_sonoclip(tmp_path / "v.pth", clip))


def test_a_vision_tower_alone_asks_for_its_base(clip: CLIP, tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"no text tower; name the CLIP file .* with --base"):
        load_published(write_sonoclip(tmp_path / "v.pth", clip))


def test_a_base_beside_a_whole_model_is_refused(base: Path) -> None:
    with pytest.raises(SonoError, match="leave --base out"):
        load_published(base, base)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not a configuration of open_clip"),
        ('{"embed_dim": 4}', "not a configuration of open_clip"),
        (
            '{"embed_dim": 16, "vision_cfg": {"depth": 3}, "text_cfg": {}}',
            "this architecture cannot be built",
        ),
        ('{"embed_dim": 16, "vision_cfg": 3, "text_cfg": {}}', "this architecture cannot be built"),
    ],
)
def test_a_broken_configuration_is_one_line(
    content: str, told: str, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SonoError, match=told) as caught:
        load_published(base, architecture=str(tmp_path / "config.json"))
    assert "\n" not in str(caught.value)


def test_names_of_no_vision_transformer_ask_for_the_architecture(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(SonoError, match="give its --architecture"):
        load_published(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"logit_scale": torch.ones(3), "logit_bias": torch.ones(1)},
            r"logit_scale is one number, not \[3\]",
        ),
        (
            {"visual.ln_post.bias": torch.full((64,), torch.nan)},
            "with values that are not finite visual.ln_post.bias",
        ),
        (
            {"visual.proj": torch.ones(64, 16).to_sparse()},
            "'visual.proj' is sparse, quantized or complex",
        ),
        (
            {"visual.positional_embedding": torch.ones(0, 64)},
            "another shape visual.positional_embedding",
        ),
        (
            {"visual.conv1.weight": torch.ones(7)},
            "does not have the names of OpenAI's vision transformers",
        ),
    ],
)
def test_odd_weights_are_one_line(
    changes: dict[str, torch.Tensor], told: str, clip: CLIP, tmp_path: Path
) -> None:
    torch.save(clip.state_dict() | changes, tmp_path / "odd.pt")
    with pytest.raises(SonoError, match=told) as caught:
        load_published(tmp_path / "odd.pt")
    assert "\n" not in str(caught.value)


def test_a_tower_of_convolutions_and_a_longer_context_come_by_configuration(tmp_path: Path) -> None:
    vision = {
        "timm_model_name": "resnet10t",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    }
    config = {
        "embed_dim": 16,
        "vision_cfg": vision,
        "text_cfg": ARCHITECTURE["text_cfg"] | {"context_length": 117},
    }
    clip = CLIP(**config).eval()
    torch.save(clip.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _ = load_published(tmp_path / "weights.pt", architecture=str(tmp_path / "config.json"))
    image = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = clip.encode_image((image - MEAN) / STD)
        assert torch.allclose(
            model.encode_image(image, torch.ones(2, 1, 64, 64)), expected, atol=1e-4
        )
        tokens = model.tokenize(["a head"])
        assert tokens.shape == (1, 117)
        assert torch.allclose(model.encode_text(tokens), clip.encode_text(tokens), atol=1e-4)


def test_a_checkpoint_with_a_bert_needs_its_configuration_and_no_network(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    text = {
        "hf_model_name": str(write_bert(tmp_path / "bert")),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_pooler",
    }
    config = ARCHITECTURE | {"text_cfg": text | {"context_length": 32}}
    clip = CustomTextCLIP(**{**config, "text_cfg": text}).eval()
    torch.save(clip.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _ = load_published(tmp_path / "weights.pt", architecture=str(tmp_path / "config.json"))
    with torch.inference_mode():
        tokens = model.tokenize(["a fetal head"])
        assert torch.allclose(model.encode_text(tokens), clip.encode_text(tokens), atol=1e-5)


@pytest.mark.parametrize("value", [torch.zeros(1, dtype=torch.float16), torch.zeros(1)])
def test_a_weight_that_declares_more_than_the_file_holds_is_one_line(
    value: torch.Tensor, tmp_path: Path
) -> None:
    torch.save({"visual.conv1_alpha.weight": value.expand(10**6, 10**7)}, tmp_path / "huge.pt")
    with pytest.raises(
        SonoError,
        match=r"conv1_alpha\.weight' declares 10,000,000,000,000 numbers but does not have them",
    ):
        load_published(tmp_path / "huge.pt")


def test_weights_of_ours_come_with_their_run_and_not_alone(tmp_path: Path) -> None:
    save_file({"towers.visual.proj": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(
        SonoError, match=r"weights of sono; copy the complete folder of their run into runs/"
    ):
        load_published(tmp_path / "model.safetensors")


def test_a_state_that_is_no_mapping_is_one_line(tmp_path: Path) -> None:
    torch.save({"state_dict": 5}, tmp_path / "odd.pt")
    with pytest.raises(SonoError, match="does not have the names of OpenAI's vision transformers"):
        load_published(tmp_path / "odd.pt")
