"""The text features of classes that are described by several prompts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sono.training.model.mask_clip import MaskClip


# no_grad, since gathered weights from inference_mode could not be used in the next step
@torch.no_grad()
def class_embeddings(model: MaskClip, prompts: Sequence[Sequence[str]]) -> Tensor:
    """Unit features [classes, d]: the normalized mean of each class's normalized prompts."""
    means = [F.normalize(model.encode_texts(list(texts)), dim=-1).mean(0) for texts in prompts]
    return F.normalize(torch.stack(means), dim=-1)
