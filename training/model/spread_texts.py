"""Initialize the projection of a pretrained text tower so that similar names differ."""

from collections.abc import Sequence

import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn

from sono.training.model.mask_clip import MaskClip
from sono.training.model.text_towers import text_body

# of the largest variance, added to all: less would amplify what only one phrasing says
FLOOR = 0.01


@torch.no_grad()
def spread_texts(model: MaskClip, texts: Sequence[str]) -> None:
    """Initialize the text projection with whitened principal components of `texts`.

    This is only for a BERT. A sentence encoder places "left kidney" next to "right kidney" (cosine
    0.97) and every caption next to all others, so a random projection would first have to learn
    what distinguishes names. Components are scaled to equal variance except for FLOOR; if there are
    fewer than the projection is wide, the rest stays random and small.
    """
    tower = model.towers.text
    if (
        not isinstance(tower, HFTextEncoder)
        or not isinstance(tower.proj, nn.Linear)
        or len(texts) < 2
    ):
        return
    body = torch.cat(
        [
            text_body(tower, model.tokens(list(texts[at : at + 256])))
            for at in range(0, len(texts), 256)
        ]
    )
    mean, components = _whitening(body.float(), len(tower.proj.weight))
    weight = tower.proj.weight
    # the size of weights that the learning rate is made for
    scale = weight.std() / components.std()
    weight[: len(components)] = components * scale
    if tower.proj.bias is not None:
        tower.proj.bias.copy_(-(weight @ mean))
    model.forget_captions()


def _whitening(body: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The mean [d] of features [n, d], and up to `width` whitening rows [k, d]."""
    mean = body.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov((body - mean).T))
    variance, directions = variance.flip(0)[:width], directions.flip(1)[:, :width]
    rows = (directions * (variance + FLOOR * variance[0]).rsqrt()).T
    return mean, rows
