"""A real SAM, small, with random weights."""

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)


def tiny_sam(window: int = 3, patch: int = 8, heads: int = 2) -> Sam:
    torch.manual_seed(3)  # one whose masks are not empty
    encoder = ImageEncoderViT(
        img_size=8 * patch, patch_size=patch, embed_dim=32, depth=3, num_heads=heads, mlp_ratio=2,
        out_chans=32, use_rel_pos=True, window_size=window, global_attn_indexes=(1,),
    )  # fmt: skip
    prompts = PromptEncoder(
        embed_dim=32,
        image_embedding_size=(8, 8),
        input_image_size=(8 * patch, 8 * patch),
        mask_in_chans=8,
    )
    decoder = MaskDecoder(
        transformer_dim=32,
        transformer=TwoWayTransformer(depth=1, embedding_dim=32, mlp_dim=24, num_heads=8),
        iou_head_depth=2, iou_head_hidden_dim=16,
    )  # fmt: skip
    model = Sam(encoder, prompts, decoder)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model
