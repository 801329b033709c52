"""SonoCLIP's preprocessing of a picture, for parity; our own frames use `letterbox`."""

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
    """A picture and its mask as SonoCLIP feeds them: [1, c, side, side] and [1, 1, side, side].

    The picture is [H, W] or [H, W, 3] (RGB), the mask [H, W]. Zero padding to a square, then
    antialiased resizing, bicubic for the picture (which may slightly exceed [0, 1]) and linear for
    the mask (which is soft at its border). Raises SonoError if the two differ in size: nothing is
    rotated.
    """
    if mask.shape != picture.shape[:2]:
        raise SonoError(
            f"the mask has {mask.shape} pixels, the picture {picture.shape[:2]}; give the mask of "
            "this picture"
        )
    image = torch.from_numpy(pad_to_square(picture)).float().div(255)
    image = image[None] if image.ndim == 2 else image.permute(2, 0, 1)
    inside = torch.from_numpy(pad_to_square(mask.astype(np.float32)))[None]
    return _resized(image, side, "bicubic"), _resized(inside, side, "bilinear")


def _resized(image: Tensor, side: int, mode: str) -> Tensor:
    return F.interpolate(image[None], (side, side), mode=mode, antialias=True, align_corners=False)
