import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_files import random_clip, write_bert, write_openai, write_sonoclip

from sono.curation.core.errors import SonoError
from sono.training.interop import export_onnx as onnx_module
from sono.training.interop.export_onnx import export_onnx
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import load_sonoclip
from sono.training.model.mask_clip import MaskClip

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def features(path: Path, **inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


def steered(config: ModelConfig) -> MaskClip:
    """A new model whose features hang on the mask, as after training."""
    torch.manual_seed(0)
    model = MaskClip(config).eval()
    with torch.no_grad():
        for weight in model.mask_weights():
            weight.normal_(std=0.1)
    return model


@pytest.fixture(scope="module", params=["SonoCLIP", "nano", "lite0 with a BERT"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MaskClip:
    folder = tmp_path_factory.mktemp("clip")
    if request.param == "nano":
        return steered(ModelConfig(name="nano", image_size=64))
    if request.param == "lite0 with a BERT":
        pytest.importorskip("transformers", reason="the extra bert is not installed")
        bert = str(write_bert(folder / "bert"))
        return steered(
            ModelConfig(
                name="lite0", image_size=64, region_pool=True, text_tower=bert, text_bias=True
            )
        )
    clip = random_clip()
    return load_sonoclip(
        write_openai(folder / "base.pt", clip), write_sonoclip(folder / "vision.pth", clip)
    )


@pytest.mark.slow
def test_both_graphs_give_the_features_of_the_model_for_any_batch(
    model: MaskClip, tmp_path: Path
) -> None:
    written = export_onnx(model, tmp_path)
    assert [file.name for file in written] == ["image.onnx", "text.onnx", "model.json"]
    side, generator = model.image_size, torch.Generator().manual_seed(7)
    for count in (1, 4):
        image = torch.rand(count, model.config.channels, side, side, generator=generator)
        mask = (torch.rand(count, 1, side, side, generator=generator) > 0.3).float()
        tokens = model.tokenize(["a fetal femur", "head", "a transthalamic view", "x"][:count])
        with torch.inference_mode():
            pictures, words = (
                model.encode_image(image, mask).numpy(),
                model.encode_text(tokens).numpy(),
            )
            unmasked = model.encode_image(image, torch.ones_like(mask)).numpy()
        assert np.abs(features(written[0], image=image, mask=mask) - pictures).max() < 1e-4
        # the mask matters
        assert model.config.channels == 3 or np.abs(unmasked - pictures).max() > 1e-3
        assert np.abs(features(written[1], tokens=tokens) - words).max() < 1e-4
    assert json.loads(written[2].read_text())["logit_bias"] == model.logit_bias.item()


def test_a_graph_that_differs_is_not_handed_out(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_module, "TOLERANCE", -1.0)
    with pytest.raises(SonoError, match="the image graph differs from the model"):
        export_onnx(MaskClip(ModelConfig(name=tiny)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_message_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SonoError, match=r"pip install .\[onnx\]"):
        export_onnx(MaskClip(ModelConfig(name="nano", image_size=32)), tmp_path)
