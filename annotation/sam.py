"""Segment Anything as a proposer: a local checkpoint of any size, prompted with boxes."""

from collections.abc import Mapping, Sequence
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

from sono.annotation.proposers import Box, OutlineProposer, Prompt, Proposal, box_of
from sono.curation.core.atomic import file_sha256
from sono.curation.core.checkpoint_names import DAMAGED, asked_for, opened, unwrapped
from sono.curation.core.errors import SonoError

DECODER_HEADS = 8  # of every published SAM; the weights do not contain it
CLASSES_HELP = "give the .pth of SAM, MedSAM or another model of that layout"


class SamProposer:
    """Prompts SAM with the boxes of known masks, or else of the outline found without weights."""

    source = "sam"

    def __init__(
        self,
        model: Sam,
        model_hash: str,
        margin: float = 0.05,
        outlines: OutlineProposer | None = None,
    ) -> None:
        self.model_hash = model_hash
        self._margin = margin
        self._predictor = SamPredictor(model.eval())
        self._outlines = outlines or OutlineProposer()
        self._encoded: NDArray[np.uint8] | None = None  # the frame of the last `prompted`

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        margin: float = 0.05,
        pixels: Literal["sam", "unit"] = "sam",
        outlines: OutlineProposer | None = None,
    ) -> "SamProposer":
        """Load a checkpoint; `pixels` "unit" scales the input to 0..1, as MedSAM expects.

        Raises SonoError if it is not a SAM.
        """
        model = build_sam(_load_state(checkpoint))
        if pixels == "unit":
            model.pixel_mean, model.pixel_std = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 255.0)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), file_sha256(checkpoint)[:16], margin, outlines)

    def propose(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        """A mask for each box; the image is encoded once."""
        prompts = list(boxes) or self._outline_boxes(gray, plane, region)
        if not prompts:
            return []
        with torch.inference_mode():
            self._predictor.set_image(np.repeat(gray[..., None], 3, axis=2))
            self._encoded = None
            found = [self._segment(widen(box, self._margin, gray.shape)) for box in prompts]
        return [proposal for proposal in found if proposal.mask.any()]

    def prompted(self, gray: NDArray[np.uint8], prompt: Prompt) -> Proposal:
        """The mask for one box or point of a person; the same frame is encoded once."""
        with torch.inference_mode():
            if self._encoded is None or not np.array_equal(self._encoded, gray):
                self._predictor.set_image(np.repeat(gray[..., None], 3, axis=2))
                self._encoded = gray.copy()
            return self._predict(prompt)

    def _outline_boxes(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None
    ) -> list[Box]:
        outlines = self._outlines.propose(gray, plane, region, ()) if plane is not None else []
        return [
            box_of(outline.structure, outline.mask)
            for outline in outlines
            if outline.structure is not None
        ]

    def _segment(self, box: Box) -> Proposal:
        return self._predict(Prompt(box.structure, box=(box.x0, box.y0, box.x1, box.y1)))

    def _predict(self, prompt: Prompt) -> Proposal:
        given: dict[str, NDArray[np.generic]] = {}
        if prompt.box is not None:
            given["box"] = np.array(prompt.box)
        if prompt.point is not None:
            given |= {"point_coords": np.array([prompt.point]), "point_labels": np.array([1])}
        logits, quality, _ = self._predictor.predict(
            **given, multimask_output=True, return_logits=True
        )
        best = int(np.argmax(quality))
        score, stable = float(np.clip(quality[best], 0, 1)), stability_of(logits[best])
        return Proposal(prompt.structure, logits[best] > 0, score, stable, prompt.as_json())


def stability_of(logits: NDArray[np.floating]) -> float:
    """Overlap of the masks at thresholds +1 and -1 (the smaller lies in the larger)."""
    outer = int((logits > -1).sum())
    return float((logits > 1).sum() / outer) if outer else 0.0


def widen(box: Box, margin: float, frame: tuple[int, ...]) -> Box:
    """`box` larger by `margin` of its size on every side, within the frame (height, width)."""
    dx, dy = round((box.x1 - box.x0) * margin), round((box.y1 - box.y0) * margin)
    x0, y0 = max(box.x0 - dx, 0), max(box.y0 - dy, 0)
    return Box(box.structure, x0, y0, min(box.x1 + dx, frame[1]), min(box.y1 + dy, frame[0]))


def build_sam(state: Mapping[str, torch.Tensor]) -> Sam:
    """A SAM with the weights `state`, its sizes read from their shapes.

    Raises SonoError if a key is missing, left over or has the wrong shape.
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
            f"the weights do not fit Segment Anything ({first}); {CLASSES_HELP}"
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
