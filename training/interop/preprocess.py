"""The published way from a picture to the model's square, for parity with SonoCLIP; our frames
go by `letterbox`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import pad_to_square


def published_square(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], side: int
) -> tuple[Tensor, Tensor]:
    """A picture [H, W] or [H, W, 3] (RGB) and its mask [H, W] as SonoCLIP feeds them: [1, c, side,
    side], [1, 1, ...].

    Zero padding to a square, then antialiased resizing, bicubic for the picture (which may pass [0,
    1] a little) and linear for the mask (which is soft at its border). SonoError where the two
    differ in size: nothing is rotated.
    """
    if mask.shape != picture.shape[:2]:
        raise SonoError(
            f"the mask has {mask.shape} pixels, the picture {picture.shape[:2]}; give the mask of "
            f"this one"
        )
    planes = torch.from_numpy(pad_to_square(picture)).float().div(255)
    planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
    inside = torch.from_numpy(pad_to_square(mask.astype(np.float32)))[None]
    return _resized(planes, side, "bicubic"), _resized(inside, side, "bilinear")


def _resized(planes: Tensor, side: int, mode: str) -> Tensor:
    return F.interpolate(planes[None], (side, side), mode=mode, antialias=True, align_corners=False)
