"""Write small random checkpoints in the published formats, with the names of the published code."""

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor

VISION = {"layers": 2, "width": 64, "head_width": 64, "patch_size": 8, "image_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
ARCHITECTURE: dict[str, Any] = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
# A model of a few numbers, whose checkpoints cost nothing.
TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {**VISION, "layers": 1, "width": 32, "head_width": 16},
    "text_cfg": {**TEXT, "width": 16, "heads": 2},
}


def random_clip(seed: int = 0, quick_gelu: bool = True) -> CLIP:
    """OpenAI's CLIP in small, values that half precision holds."""
    torch.manual_seed(seed)
    model = CLIP(**ARCHITECTURE, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())
    return model


def vision_weights(clip: CLIP, seed: int = 1, depthwise: bool = True) -> dict[str, Tensor]:
    """The vision tower as SonoCLIP and Alpha-CLIP save it.

    It has a mask conv, a depthwise conv and attention with in_proj.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name.replace("in_proj_", "in_proj."): value.clone()
        for name, value in clip.visual.state_dict().items()
    }
    weights["conv1_alpha.weight"] = torch.randn(64, 1, 8, 8, generator=generator) * 0.05
    if depthwise:
        weights["dwconv.weight"] = torch.randn(64, 1, 3, 3, generator=generator) * 0.3
    return weights


def write_openai(path: Path, clip: CLIP) -> Path:
    torch.save({name: value.half() for name, value in clip.state_dict().items()}, path)
    return path


def write_sonoclip(path: Path, clip: CLIP, **changes: Tensor | None) -> Path:
    weights = {
        f"module.{name}": value
        for name, value in (vision_weights(clip) | changes).items()
        if value is not None
    }
    scalars = {"logit_scale": torch.tensor(2.4), "logit_bias": torch.tensor(-9.5)}
    torch.save({"visual": weights, **scalars, "step": 55000}, path)
    return path


def write_bert(folder: Path, words: str = "a fetal head femur view of the ultrasound .") -> Path:
    """A folder with a tiny BERT, as transformers saves one: configuration, weights, vocabulary."""
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split()]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    BertModel(
        BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **sizes)
    ).save_pretrained(folder)
    return folder
