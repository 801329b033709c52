import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from clip_files import TEXT, random_clip, write_openai, write_sonoclip
from safetensors.torch import save_file
from small_encoders import WIDTH, drawn, loaded, register, same, small_beit, small_eva, small_vit
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from timm.models.eva import checkpoint_filter_fn as eva_names
from timm.models.vision_transformer import checkpoint_filter_fn as vit_names
from torch import Tensor, nn

from sono.curation.core.errors import SonoError
from sono.training.interop import encoder_timm
from sono.training.interop.encoders import UNKNOWN, read_encoder, seen_by
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip


def saved(content: object, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return path


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


@pytest.mark.parametrize("way", ["plain", "container", "ddp", "classifier", "safetensors"])
def test_a_transformer_of_timm_gives_its_features(way: str, tmp_path: Path) -> None:
    vit, path = small_vit(), tmp_path / "vit.pth"
    weights = copies(vit)
    content: Any = weights
    if way == "container":
        content = {"model": weights, "epoch": 3}
    elif way == "ddp":
        content = {
            "state_dict": below("module.", weights),
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
        }
    elif way == "classifier":
        content = weights | {"head.weight": torch.ones(5, WIDTH), "head.bias": torch.ones(5)}
    if way == "safetensors":
        save_file(weights, path)
    else:
        saved(content, path)
    encoder = read_encoder(path)
    assert (encoder.layout, encoder.seen) == ("timm", UNKNOWN)
    assert encoder.vision_cfg["image_size"] == 32
    assert same(loaded(encoder, WIDTH), vit)


def test_half_precision_is_read(tmp_path: Path) -> None:
    vit = small_vit()
    for weight in vit.parameters():
        weight.data = weight.data.half().float()
    path = saved({name: value.half() for name, value in copies(vit).items()}, tmp_path / "vit.pth")
    assert same(loaded(read_encoder(path), WIDTH), vit)


def test_positions_are_resized_as_timm_does_it(tmp_path: Path) -> None:
    vit = small_vit()
    tower = loaded(read_encoder(saved(copies(vit), tmp_path / "vit.pth")), WIDTH, image_size=48)
    vit.set_input_size(48)
    assert same(tower, vit, side=48)


def mae_content(vit: nn.Module) -> dict[str, object]:
    """A training checkpoint of MAE: encoder, decoder and the options as argparse has them."""
    weights = copies(vit)
    for name in ("weight", "bias"):
        weights[f"norm.{name}"] = weights.pop(f"fc_norm.{name}")
    decoder = {"mask_token": torch.ones(1, 1, 8), "decoder_embed.weight": torch.ones(8, WIDTH)}
    decoder |= {
        "decoder_blocks.0.norm1.weight": torch.ones(8),
        "decoder_pos_embed": torch.ones(1, 17, 8),
    }
    return {"model": weights | decoder, "args": argparse.Namespace(lr=0.1, model="mae"), "epoch": 9}


def test_ultrafedfm_is_an_mae_whose_patches_are_averaged(tmp_path: Path) -> None:
    vit = small_vit(global_pool="avg")
    encoder = read_encoder(saved(mae_content(vit), tmp_path / "UltraFedFM" / "checkpoint.pth"))
    assert encoder.layout == "MAE"
    assert encoder.seen.startswith(
        "UltraFedFM: 1 M ultrasound images of 16 sites; whether FETAL_PLANES_DB"
    )
    assert same(loaded(encoder, WIDTH), vit)


def test_a_fine_tuned_mae_has_a_norm_of_its_mean(tmp_path: Path) -> None:
    vit = small_vit(global_pool="avg")
    encoder = read_encoder(
        saved(copies(vit) | {"head.weight": torch.ones(2, WIDTH)}, tmp_path / "vit.pth")
    )
    assert same(loaded(encoder, WIDTH), vit)


def test_tinyusfm_has_twelve_heads(tmp_path: Path) -> None:
    vit = small_vit(num_heads=12, global_pool="avg")
    weights = {name.replace("fc_norm", "norm"): value for name, value in copies(vit).items()}
    path = saved(below("module.model.", weights), tmp_path / "models" / "TinyUSFM.pth")
    encoder = read_encoder(path)
    assert (encoder.layout, encoder.vision_cfg["head_width"]) == ("TinyUSFM", 16)
    assert encoder.seen.startswith("TinyUSFM: distilled from USFM")
    assert same(loaded(encoder, WIDTH), vit)
    path = path.rename(path.with_name("other.pth"))
    with pytest.raises(
        SonoError,
        match=r"other\.pth: TinyUSFM \(12 heads\) or timm's ViT-Ti \(3 heads\).*rename it",
    ):
        read_encoder(path)


def test_dino_takes_the_teacher(tmp_path: Path) -> None:
    vit = small_vit()
    student = below("module.backbone.", copies(small_vit(depth=1)))
    teacher = below("backbone.", copies(vit)) | {"head.mlp.0.weight": torch.ones(3, 3)}
    content = {"student": student, "teacher": teacher, "args": argparse.Namespace(arch="vit_small")}
    encoder = read_encoder(saved(content, tmp_path / "checkpoint.pth"))
    assert (encoder.layout, encoder.seen) == ("DINO", UNKNOWN)
    assert same(loaded(encoder, WIDTH), vit)


def test_dinov2_has_layer_scale_and_chunks(tmp_path: Path) -> None:
    vit = small_vit(init_values=1e-5)
    weights = {name.replace("blocks.", "blocks.0."): value for name, value in copies(vit).items()}
    teacher = below("backbone.", weights | {"mask_token": torch.ones(1, WIDTH)})
    content = {"teacher": teacher | {"dino_head.last_layer.weight": torch.ones(2, 2)}}
    encoder = read_encoder(saved(content, tmp_path / "teacher_checkpoint.pth"))
    assert encoder.layout == "DINOv2"
    assert same(loaded(encoder, WIDTH), vit)


def test_dinov2_with_registers_agrees_with_timms_own_reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(**options: Any) -> nn.Module:
        return small_vit(
            **{
                "init_values": 1e-5,
                "reg_tokens": 4,
                "no_embed_class": True,
                **options,
                "num_classes": 0,
            }
        )

    register(monkeypatch, "small_registers", build, side=32)
    monkeypatch.setitem(encoder_timm.DINOV2_REGISTERS, WIDTH, "small_registers")
    weights = copies(small_vit(init_values=1e-5)) | {"register_tokens": torch.randn(1, 4, WIDTH)}
    path = saved(weights | {"mask_token": torch.ones(1, WIDTH)}, tmp_path / "reg4.pth")
    reference = build()
    reference.load_state_dict(vit_names(weights | {"mask_token": torch.ones(1, WIDTH)}, reference))
    encoder = read_encoder(path)
    assert (encoder.layout, encoder.vision_cfg["image_size"]) == ("DINOv2", 32)
    assert same(loaded(encoder, WIDTH, image_size=32), reference)
    reference.set_input_size(48)
    assert same(loaded(encoder, WIDTH, image_size=48), reference, side=48)


def dinov3_weights(gated: bool, biased: bool) -> dict[str, Tensor]:
    """Random weights under the names of facebookresearch/dinov3."""
    weights: dict[str, Tensor] = {
        "rope_embed.periods": torch.ones(8),
        "mask_token": torch.ones(1, 64),
    }
    gates = {"mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc2": "mlp.w3"} if gated else {}
    names = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"} | gates
    for name, value in copies(
        drawn(small_eva(qkv_bias=False, swiglu_mlp=gated, swiglu_align_to=8))
    ).items():
        given = name
        for ours, theirs in names.items():
            given = given.replace(ours, theirs)
        weights[given] = value
    for block in range(2):
        weights[f"blocks.{block}.attn.qkv.bias"] = torch.randn(192) if biased else torch.zeros(192)
        weights[f"blocks.{block}.attn.qkv.bias_mask"] = torch.full((192,), torch.nan)
    return weights


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_dinov3_agrees_with_timms_own_reading(
    gated: bool, biased: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(**options: Any) -> nn.Module:
        pool = options.get("global_pool", "token")
        return small_eva(qkv_bias=biased, swiglu_mlp=gated, swiglu_align_to=8, global_pool=pool)

    name = "small_dinov3_qkvb" if biased else "small_dinov3"
    register(monkeypatch, name, build, side=64)
    monkeypatch.setitem(encoder_timm.DINOV3, (64, gated), "small_dinov3")
    weights, reference = dinov3_weights(gated, biased), build().eval()
    path = saved(weights, tmp_path / "dinov3.pth")
    monkeypatch.setattr("builtins.print", lambda *_: None)  # timm prints the names it looks for
    reference.load_state_dict(eva_names(dict(weights), reference))
    encoder = read_encoder(path)
    assert (encoder.layout, encoder.vision_cfg["timm_model_name"]) == ("DINOv3", name)
    assert same(loaded(encoder, 64, image_size=64), reference, side=64)
    assert same(loaded(encoder, 64, image_size=96), reference, side=96)


@pytest.fixture
def beit(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A small BEiT with random values, which read_encoder knows by its width."""
    register(monkeypatch, "small_beit", small_beit, side=32)
    monkeypatch.setitem(encoder_timm.BEIT, 64, "small_beit")
    return drawn(small_beit())


# in timm's own resizing
@pytest.mark.filterwarnings("ignore:torch.searchsorted", "ignore:Using a non-tuple")
def test_beit_gives_its_features_at_its_size_and_at_another(
    beit: nn.Module, tmp_path: Path
) -> None:
    weights = copies(beit) | {
        "blocks.0.attn.relative_position_index": torch.ones(17, 17, dtype=torch.int64)
    }
    content = {"model": weights | {"head.weight": torch.ones(3, 64), "head.bias": torch.ones(3)}}
    encoder = read_encoder(saved(content, tmp_path / "usfm" / "latest.pth"))
    assert (encoder.layout, encoder.vision_cfg["image_size"]) == ("BEiT", 32)
    assert encoder.seen.startswith("USFM: over 2 M ultrasound images")
    assert same(loaded(encoder, 64), beit)
    larger, weights = small_beit(img_size=48), copies(beit)
    for block in range(2):
        name = f"blocks.{block}.attn.relative_position_bias_table"
        weights[name] = resize_rel_pos_bias_table_simple(weights[name], (6, 6), (11 * 11 + 3, 4))
    larger.load_state_dict(weights)
    assert same(loaded(encoder, 64, image_size=48), larger.eval(), side=48)


def test_a_table_of_positions_that_blocks_share_is_put_in_each(
    beit: nn.Module, tmp_path: Path
) -> None:
    shared = drawn(small_beit(use_rel_pos_bias=False, use_shared_rel_pos_bias=True))
    weights = {name.replace("fc_norm.", "norm."): value for name, value in copies(shared).items()}
    weights |= {"mask_token": torch.ones(1, 1, 64), "lm_head.weight": torch.ones(7, 64)}
    encoder = read_encoder(saved(weights, tmp_path / "pretrained.pth"))
    assert same(loaded(encoder, 64), shared)


def test_the_hugging_face_port_of_beit_gives_its_features(beit: nn.Module, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra bert is not installed")
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
    }
    config = transformers.BeitConfig(
        **sizes, image_size=32, patch_size=8, use_relative_position_bias=True, layer_norm_eps=1e-6
    )
    model = drawn(transformers.BeitModel(config))
    model.save_pretrained(tmp_path / "USFM")
    encoder = read_encoder(tmp_path / "USFM" / "model.safetensors")
    tower = loaded(encoder, 64)
    image = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(tower(image), model(image).pooler_output, atol=2e-4)
    assert encoder.seen.startswith("USFM")


def test_a_clip_by_openai_gives_its_vision_tower(tmp_path: Path) -> None:
    clip = random_clip()
    path = write_openai(tmp_path / "clip.pt", clip)
    weights = torch.load(path, weights_only=True) | {"input_resolution": torch.tensor(32)}
    encoder = read_encoder(saved(weights, path))
    assert (encoder.layout, encoder.quick_gelu) == ("CLIP", True)
    tower = loaded(encoder, 64)
    clip.visual.proj = nn.Parameter(torch.eye(64))
    assert same(tower, clip.visual)


@pytest.mark.parametrize("bare", [False, True])
def test_a_clip_by_open_clip_needs_its_configuration(bare: bool, tmp_path: Path) -> None:
    clip = random_clip(quick_gelu=False)
    weights = (
        copies(clip.visual)
        if bare
        else {f"module.{name}": value for name, value in copies(clip).items()}
    )
    path = saved({"state_dict": weights, "name": "run"}, tmp_path / "clip.pt")
    with pytest.raises(
        SonoError,
        match=r"clip\.pt: a CLIP that does not say whether it has QuickGELU: put its open_cl",
    ):
        read_encoder(path)
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": {"width": 64}, "text_cfg": TEXT}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    tower = loaded(read_encoder(path), 64)
    clip.visual.proj = nn.Parameter(torch.eye(64))
    assert same(tower, clip.visual)


def test_a_clip_with_a_mask_channel_is_imported_and_not_read_here(tmp_path: Path) -> None:
    with pytest.raises(
        SonoError, match=r"v\.pth: a CLIP with a mask channel: use sono model import"
    ):
        read_encoder(write_sonoclip(tmp_path / "v.pth", random_clip()))


@pytest.mark.parametrize("way", ["training checkpoint", "config.json", "open_clip"])
def test_any_timm_model_is_known_by_its_name(way: str, tmp_path: Path) -> None:
    model = drawn(timm.create_model("test_resnet", num_classes=7))
    weights, path = copies(model), tmp_path / "model.safetensors"
    if way == "training checkpoint":
        path = saved(
            {"arch": "test_resnet", "state_dict": below("module.", weights)},
            tmp_path / "last.pth.tar",
        )
    elif way == "config.json":
        save_file(weights, path)
        (tmp_path / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 7}')
    else:
        path = saved(
            below("visual.trunk.", weights) | {"logit_scale": torch.ones(())},
            tmp_path / "open_clip.bin",
        )
        vision = {"timm_model_name": "test_resnet.r160_in1k"}
        (tmp_path / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": {"vision_cfg": vision}})
        )
    model.reset_classifier(0)
    tower = loaded(read_encoder(path), model.num_features)
    assert same(tower, model)


def test_a_named_transformer_keeps_its_own_number_of_heads(tmp_path: Path) -> None:
    model = drawn(timm.create_model("test_vit", num_classes=3))  # 2 heads at width 64
    path = saved({"arch": "test_vit", "state_dict": copies(model)}, tmp_path / "last.pth")
    model.reset_classifier(0)
    tower = loaded(read_encoder(path), 64, image_size=160)
    assert same(tower, model, side=160)


# in timm's own resizing
@pytest.mark.filterwarnings("ignore:torch.searchsorted", "ignore:Using a non-tuple")
@pytest.mark.parametrize("layout", ["timm", "BEiT", "DINOv3"])
def test_the_model_with_a_mask_is_built_of_what_is_read(
    layout: str, beit: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(
        monkeypatch, "small_dinov3", lambda **options: small_eva(qkv_bias=False, **options), side=64
    )
    monkeypatch.setitem(encoder_timm.DINOV3, (64, False), "small_dinov3")
    weights = {
        "timm": copies(small_vit()),
        "BEiT": copies(beit),
        "DINOv3": dinov3_weights(False, False),
    }[layout]
    encoder = read_encoder(saved(weights, tmp_path / "vit.pth"))
    assert encoder.layout == layout
    architecture = {"embed_dim": 16, "vision_cfg": encoder.vision_cfg, "text_cfg": TEXT}
    model = MaskClip(ModelConfig(architecture=architecture, image_size=48)).eval()
    with torch.inference_mode():
        assert model.encode_image(torch.rand(2, 1, 48, 48), torch.ones(2, 1, 48, 48)).shape == (
            2,
            16,
        )


def test_positions_of_no_square_are_named_and_not_resized(beit: nn.Module, tmp_path: Path) -> None:
    name = "blocks.0.attn.relative_position_bias_table"
    encoder = read_encoder(saved(copies(beit) | {name: torch.ones(50, 4)}, tmp_path / "beit.pth"))
    with pytest.raises(SonoError, match=rf"of another shape trunk\.{name} \[50, 4\] for \[52, 4\]"):
        loaded(encoder, 64)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"blocks.1.norm2.bias": None}, r"missing transformer\.resblocks\.1\.ln_2\.bias; choose"),
        ({"blocks.1.adapter.weight": torch.ones(2)}, r"left over blocks\.1\.adapter\.weight"),
        ({"norm.bias": torch.ones(3)}, r"of another shape ln_post\.bias \[3\] for \[192\]"),
        ({"norm.bias": torch.full((WIDTH,), torch.inf)}, r"not finite ln_post\.bias"),
        ({"dist_token": torch.ones(1, 1, WIDTH)}, r"left over dist_token"),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, Tensor | None], expected: str, tmp_path: Path
) -> None:
    weights = {
        name: value for name, value in (copies(small_vit()) | changes).items() if value is not None
    }
    encoder = read_encoder(saved(weights, tmp_path / "vit.pth"))
    with pytest.raises(
        SonoError, match=rf"vit\.pth: not the weights of this VisionTransformer: {expected}"
    ):
        loaded(encoder, WIDTH)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pos_embed": None}, r"missing or have odd shapes \('pos_embed'\)"),
        ({"pos_embed": torch.ones(3)}, r"missing or have odd shapes"),
        (
            {"patch_embed.proj.weight": torch.ones(100, 3, 8, 8)},
            r"a transformer of width 100, whose number of heads",
        ),
        (
            {"norm.bias": torch.ones(2, 2).to_sparse()},
            r"weight 'norm.bias' is sparse, quantized or complex",
        ),
        (
            {"norm.bias": torch.zeros(1).expand(10**6, 10**7)},
            r"weight 'norm.bias' has more numbers than the file",
        ),
        (
            {"other.patch_embed.proj.weight": torch.ones(2)},
            r"holds several encoders \('', 'other.'\)",
        ),
    ],
)
def test_an_odd_file_is_one_line(
    changes: dict[str, Tensor | None], expected: str, tmp_path: Path
) -> None:
    weights = {
        name: value for name, value in (copies(small_vit()) | changes).items() if value is not None
    }
    with pytest.raises(SonoError, match=rf"vit\.pth: .*{expected}") as caught:
        read_encoder(saved(weights, tmp_path / "vit.pth"))
    assert "\n" not in str(caught.value)


def test_other_widths_of_beit_and_dinov3_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        SonoError,
        match=r"a\.pth: a transformer of width 64; known widths of this layout: 768, 1024",
    ):
        read_encoder(saved(copies(small_beit()), tmp_path / "a.pth"))
    with pytest.raises(SonoError, match=r"b\.pth: a DINOv3 of another size"):
        read_encoder(saved(dinov3_weights(False, False), tmp_path / "b.pth"))


def test_the_tables_of_timm_models_agree_with_timm() -> None:
    tables = (
        encoder_timm.BEIT,
        encoder_timm.DINOV2_REGISTERS,
        encoder_timm.DINOV2_GIANT,
        encoder_timm.DINOV3,
    )
    assert all(timm.is_model(name) for table in tables for name in table.values())
    assert all(timm.is_model(f"{name}_qkvb") for name in encoder_timm.DINOV3.values())
    small = {
        "vit_small_patch14_reg4_dinov2": 384,
        "beit_base_patch16_224": 768,
        "vit_small_plus_patch16_dinov3": 384,
    }
    for name, width in small.items():
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0)
        assert model.num_features == width
    assert "blocks.0.mlp.fc1_g.weight" in model.state_dict()  # the plus stands for gated layers


def test_files_that_are_no_encoder_are_one_line(tmp_path: Path) -> None:
    path = saved({"layer1.0.conv1.weight": torch.ones(2, 2)}, tmp_path / "resnet.pth")
    with pytest.raises(
        SonoError, match=r"resnet\.pth: no vision encoder that is known.*config\.json"
    ):
        read_encoder(path)
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(SonoError, match=r"empty\.pth: damaged or not a weight file"):
        read_encoder(tmp_path / "empty.pth")
    with pytest.raises(SonoError, match="a folder; give the weight file in it"):
        read_encoder(tmp_path)
    with pytest.raises(SonoError, match=r"none\.pth: no such file"):
        read_encoder(tmp_path / "none.pth")


def test_an_unknown_timm_model_and_a_broken_configuration_are_one_line(tmp_path: Path) -> None:
    path = saved({"arch": "resnet5O", "state_dict": {"a": torch.ones(1)}}, tmp_path / "last.pth")
    with pytest.raises(SonoError, match=r"last\.pth: unknown timm model 'resnet5O'; did you mean"):
        read_encoder(path)
    path = saved(copies(small_vit()), tmp_path / "vit.pth")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SonoError, match=r"config\.json: cannot be read .*correct it or remove it"):
        read_encoder(path)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    path = saved(
        {"model": copies(small_vit()), "args": argparse.Namespace(harm=Harm())},
        tmp_path / "vit.pth",
    )
    with pytest.raises(
        SonoError, match=r"more than weights \(it asks for posix.mkdir\); none of its code was run"
    ):
        read_encoder(path)
    assert not (tmp_path / "harm").exists()


def test_what_a_model_has_seen_follows_from_its_name() -> None:
    assert "SEEN FETAL_PLANES_DB" in seen_by(Path("OpenUS_vmamba.pth"))
    assert "SEEN FETAL_PLANES_DB" in seen_by(Path("models/fetalus-188k/model.safetensors"))
    assert seen_by(Path("USF-MAE_full.pth")).startswith("USF-MAE")
    assert seen_by(Path("dinov2_vits14_pretrain.pth")) == UNKNOWN
