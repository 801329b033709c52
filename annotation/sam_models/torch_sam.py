"""Segment Anything in torch: a local checkpoint of any size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from sono.annotation.proposers import Prompt
from sono.annotation.sam_models.model import Embedding
from sono.curation.core.atomic import file_sha256, sha256
from sono.curation.core.checkpoint_names import DAMAGED, asked_for, opened, unwrapped
from sono.curation.core.errors import SonoError

DECODER_HEADS = 8  # of every published SAM; the weights do not contain it
CLASSES_HELP = "give the .pth of SAM, MedSAM or another model of that layout"


class TorchSam:
    """A SAM of the segment-anything package."""

    def __init__(self, model: Sam, model_hash: str) -> None:
        self.hash = model_hash
        self._predictor = SamPredictor(model.eval())

    @classmethod
    def load(cls, checkpoint: Path, pixels: Literal["sam", "unit"] = "sam") -> "TorchSam":
        """Load a checkpoint; raises SonoError if it is not a SAM."""
        model = build_sam(_load_state(checkpoint), str(checkpoint))
        model_hash = file_sha256(checkpoint)[:16]
        if pixels == "unit":
            model.pixel_mean, model.pixel_std = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 255.0)
            model_hash = sha256(f"{model_hash} {pixels}".encode())[:16]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), model_hash)

    @torch.inference_mode()
    def encode(self, gray: NDArray[np.uint8]) -> Embedding:
        """The features [1, C, h, w] of a frame [H, W], and the size of the encoder's input."""
        self._predictor.set_image(np.repeat(gray[..., None], 3, axis=2))
        features = self._predictor.get_image_embedding().cpu().numpy()
        return {"features": features, "input_size": np.array(self._predictor.input_size)}

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, size: tuple[int, int], prompt: Prompt
    ) -> tuple[NDArray[np.floating[Any]], float]:
        """The logits [H, W] of the mask with the best quality, and this quality."""
        predictor = self._predictor
        predictor.features = torch.from_numpy(embedding["features"]).to(predictor.device)
        predictor.original_size = size
        predictor.input_size = tuple(embedding["input_size"].tolist())
        predictor.is_image_set = True
        given: dict[str, NDArray[np.generic]] = {}
        if prompt.box is not None:
            given["box"] = np.array(prompt.box)
        if prompt.point is not None:
            given |= {"point_coords": np.array([prompt.point]), "point_labels": np.array([1])}
        logits, quality, _ = predictor.predict(**given, multimask_output=True, return_logits=True)
        best = int(np.argmax(quality))
        return logits[best], float(quality[best])


def build_sam(state: Mapping[str, torch.Tensor], where: str = "") -> Sam:
    """A SAM with the weights `state`, its sizes read from their shapes.

    Raises SonoError, with `where` they come from, if a key is missing, left over or has the wrong
    shape.
    """
    try:
        model = Sam(_image_encoder(state), _prompt_encoder(state), _mask_decoder(state))
        model.load_state_dict(state, strict=True)
    except (
        KeyError,
        IndexError,
        RuntimeError,
        ValueError,
        AssertionError,
        ZeroDivisionError,
    ) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise SonoError(
            f"{where}{': ' * bool(where)}the weights do not fit Segment Anything ({first[:200]}); "
            f"{CLASSES_HELP}"
        ) from error
    return model


def _load_state(checkpoint: Path) -> dict[str, Any]:
    """The tensors of a checkpoint; no code of it is run."""
    if not checkpoint.is_file():
        raise SonoError(f"{checkpoint}: no such file; {CLASSES_HELP}")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        # torch's own text advises to load it unsafely
        raise SonoError(
            f"{checkpoint}: not a checkpoint that can be loaded safely{asked_for(error)}; none of "
            f"its code was run. Save its state_dict alone, or {CLASSES_HELP}"
        ) from error
    state = opened(content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise SonoError(f"{checkpoint}: contains no table of weights; {CLASSES_HELP}")
    return unwrapped(state)


def _image_encoder(state: Mapping[str, torch.Tensor]) -> ImageEncoderViT:
    width, _, _, patch = state["image_encoder.patch_embed.proj.weight"].shape
    side = state["image_encoder.pos_embed"].shape[1]
    depth = _count(state, "image_encoder.blocks")
    reach = [state[f"image_encoder.blocks.{block}.attn.rel_pos_h"].shape for block in range(depth)]
    full = 2 * side - 1  # relative positions of a block that sees the whole image
    windows = {(length + 1) // 2 for length, _ in reach if length != full}
    if len(windows) > 1:
        raise ValueError(f"attention windows of several sizes {sorted(windows)}")
    return ImageEncoderViT(
        img_size=side * patch,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=width // reach[0][1],
        mlp_ratio=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
        out_chans=state["image_encoder.neck.0.weight"].shape[0],
        norm_layer=_norm,
        use_rel_pos=True,
        window_size=windows.pop() if windows else 0,
        global_attn_indexes=tuple(
            block for block, (length, _) in enumerate(reach) if length == full
        ),
    )


def _prompt_encoder(state: Mapping[str, torch.Tensor]) -> PromptEncoder:
    side = state["image_encoder.pos_embed"].shape[1]
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    return PromptEncoder(
        embed_dim=state["image_encoder.neck.0.weight"].shape[0],
        image_embedding_size=(side, side),
        input_image_size=(side * patch, side * patch),
        mask_in_chans=4 * state["prompt_encoder.mask_downscaling.0.weight"].shape[0],
    )


def _mask_decoder(state: Mapping[str, torch.Tensor]) -> MaskDecoder:
    dim = state["image_encoder.neck.0.weight"].shape[0]
    transformer = TwoWayTransformer(
        depth=_count(state, "mask_decoder.transformer.layers"),
        embedding_dim=dim,
        mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        num_heads=DECODER_HEADS,
    )
    return MaskDecoder(
        num_multimask_outputs=state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        transformer=transformer,
        transformer_dim=dim,
        iou_head_depth=_count(state, "mask_decoder.iou_prediction_head.layers"),
        iou_head_hidden_dim=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    )


def _norm(width: int) -> torch.nn.LayerNorm:
    return torch.nn.LayerNorm(width, eps=1e-6)


def _count(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    """The number of numbered modules under `prefix`."""
    depth = prefix.count(".") + 1
    return len({key.split(".")[depth] for key in state if key.startswith(prefix + ".")})
