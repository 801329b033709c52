"""Augmentation of a batch: one affine map for frame and mask, then gain, gamma and speckle."""

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sono.training.config import AugmentConfig

# Words that a mirrored frame would make untrue. A mirror that is missed costs nothing, so what may
# be a side is one.
_SIDES = (
    # Latin, and short forms that many languages share: Lt, LVOT, RPA, HLHS, dx, sin.
    r"de(?:x|ks)tro\w*", r"l(?:a?e|ä|é)vo(?:[ck]ard|rot|pos|ver)\w*", "situs", "[lr]t",
    "[lr]v(?:ot)?", "(?-i:[LR]A)", "[lr]pa", "raa", "h[lr]hs", "dorv", "p?lsvc",
    "dext?(?:er|ra|rum)?", "[ds]xt?", r"sin\.",
    r"(?:left|right)\w*",  # English
    "gauches?", "gch?e?s?", "droite?s?", "dte?s?",  # French
    # Spanish; "der Kopf" is German
    r"izq\w*", "izda?o?", r"derech\w*", "dch[ao]?s?", r"der(?!\s+\w)",
    # Portuguese, Galician, Catalan
    r"esquerd\w*", "esq", r"d[ie]reit\w*", "dt[ao]", r"esquerr\w*", "dret[as]?",
    r"sinistr\w*", "destr[aeio]", r"destro(?:card|pos|ver)\w*",  # Italian
    # German, Dutch
    "linke[nms]?", r"link(?:s|er)\w*", "rechte?[nms]?", r"recht(?:s|er)\w*", "li", "re(?!-)",
    # Scandinavian
    r"venstre\w*", r"hø[jy]re\w*", r"vänst\w*", r"höger\w*", "högra", r"v[eä]\.", r"h[øö]\.",
    # Icelandic, Finnish, Estonian
    r"vinstr\w*", r"hægr\w*", r"vase(?:n|m\w*)", r"oike\w*", r"vasak\w*", r"parem\w*",
    r"(?:lew|praw)(?:[aeoyą]|ej|ego|emu|ym|ostron\w*)",  # Polish; "prawidłowy" is normal
    # Czech, Slovene; no "level"
    r"(?:lev|prav)(?:[aeiouáéíýú]|o[ugjm]|e[jm]|eg[ao]|emu|é(?:ho|mu|m)|ým)",
    # Slovak, Croatian, Serbian
    r"ľav\w*", "(?:v|z|na)(?:lev|prav|ľav)[ao]", r"u?lijev\w*", r"u?desn\w*", "desen",
    # Cyrillic
    r"(?:лев|лів|ляв|лијев|десн|дясн)\w*", "десен", r"прав(?!ил)\w*",
    r"\w?(?:лева|ліва|лево|право|права)",
    r"kair\w*", r"dešin\w*", r"kreis\w*", r"lab(?:ais|aj\w*|ā\w?|o)",  # Lithuanian, Latvian
    r"bal(?:ra|ról|os|\soldal\w*|oldal\w*)?", r"jobb(?:ra|ról|\soldal\w*|oldal\w*)?",  # Hungarian
    r"st[âaî]ng\w*", r"drea?pt\w*", r"sol(?:da\w*)?", r"sağ(?:da\w*)?",  # Romanian, Turkish
    r"αριστερ\w*", r"δεξι\w*", r"δεξί\w*",  # Greek
)  # fmt: skip
_WORDS = rf"(?<![^\W_])(?:{'|'.join(_SIDES)})(?![^\W_])"
# As capitals alone: L and R, French G and D; no elision (L'abdomen), no litres (1.5 L), no 3 D.
_LETTERS = r"(?-i:(?<![^\W_])(?:(?<!\d[.,]\d )[LR]|(?<!\d[ -])[GD])(?![^\W_]|['’]\w))"
_SIDED = re.compile(rf"{_WORDS}|{_LETTERS}|[左右]", re.IGNORECASE)


@lru_cache(65536)
def carries_side(caption: str) -> bool:
    """Whether a caption names a side (left or right), so that its frame must not be mirrored.

    It recognizes words and abbreviations of English, French, Spanish, Catalan, Galician,
    Portuguese, Italian, Romanian, German, Dutch, Danish, Norwegian, Swedish, Icelandic, Finnish,
    Estonian, Latvian, Lithuanian, Polish, Czech, Slovak, Slovene, Croatian, Serbian, Bulgarian,
    Ukrainian, Russian, Hungarian, Greek and Turkish, and Chinese and Japanese signs. For captions
    in another language, or with a small l or r for a side, set `flip = false`.
    """
    return _SIDED.search(unicodedata.normalize("NFC", caption)) is not None


@dataclass(frozen=True)
class BatchRandom:
    """Random numbers for a batch of `count` pairs, of which `own` are on this process.

    They are drawn for all pairs, so that all processes agree.
    """

    generator: torch.Generator
    count: int
    own: list[int]

    def uniform(self) -> Tensor:
        """A number in [0, 1) for each own pair [n]."""
        return torch.rand(self.count, generator=self.generator)[self.own]

    def noise(self, height: int, width: int) -> Tensor:
        """Standard normal noise for each own pair [n, 1, height, width]."""
        return torch.randn(self.count, 1, height, width, generator=self.generator)[self.own]


def augment(
    image: Tensor,
    mask: Tensor,
    may_flip: Tensor,
    config: AugmentConfig,
    dice: torch.Generator | BatchRandom,
) -> tuple[Tensor, Tensor]:
    """Augment frames [n, 1, S, S] in [0, 1] and masks [n, 1, S, S] in {0, 1}.

    A mask of ones stays one everywhere, or becomes an ellipse at a random place, so that the
    caption does not depend on where the mask is. A generator as `dice` draws only for these frames.
    """
    if isinstance(dice, torch.Generator):
        dice = BatchRandom(dice, len(image), list(range(len(image))))
    theta = _affine(may_flip & config.flip, config, dice)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, align_corners=False)
    whole = mask.flatten(1).all(dim=1)
    moved_mask = (F.grid_sample(mask, grid, align_corners=False) >= 0.5).to(mask.dtype)
    moved_mask = torch.where(_column(whole), torch.ones_like(mask), moved_mask)
    if config.mask_stray:
        strays = whole & (dice.uniform() < config.mask_stray)
        moved_mask = torch.where(_column(strays), _ellipses(mask, dice), moved_mask)
    return _photometry(moved, config, dice), moved_mask


def _ellipses(mask: Tensor, dice: BatchRandom) -> Tensor:
    """A random ellipse in place of each mask [n, 1, S, S].

    Its center is inside the square, its half axes are a tenth to half of the side.
    """
    place = torch.linspace(-1, 1, mask.shape[-1])
    off = (
        torch.stack(torch.meshgrid(place, place, indexing="xy"))[None]
        - _shifts(0.3, dice)[..., None, None]
    )
    angle = _column(_uniform(math.pi / 2, dice))
    along = off[:, :1] * torch.cos(angle) + off[:, 1:] * torch.sin(angle)
    across = off[:, 1:] * torch.cos(angle) - off[:, :1] * torch.sin(angle)
    axes = [_column(0.6 + _uniform(0.4, dice)) for _ in range(2)]
    return ((along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1).to(mask.dtype)


def _uniform(half_width: float, dice: BatchRandom) -> Tensor:
    return (dice.uniform() * 2 - 1) * half_width


def _shifts(share: float, dice: BatchRandom) -> Tensor:
    """Moves [n, 2] of up to `share` of the side, in the units of affine_grid."""
    return torch.stack([_uniform(2 * share, dice) for _ in range(2)], dim=1)


def _affine(flip: Tensor, config: AugmentConfig, dice: BatchRandom) -> Tensor:
    """Random maps [n, 2, 3] from target to source, in the units of affine_grid.

    These are -1 to 1 across the side.
    """
    angle = _uniform(math.radians(config.rotation_degrees), dice)
    zoom = 1 / (1 + _uniform(config.scale, dice))
    shift = _shifts(config.shift, dice)
    mirror = torch.where(flip & (dice.uniform() < 0.5), -1.0, 1.0)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    linear = torch.stack(
        [torch.stack([cosine * mirror, -sine], 1), torch.stack([sine * mirror, cosine], 1)], 1
    )
    return torch.cat([linear, shift[:, :, None]], dim=2)


def _photometry(image: Tensor, config: AugmentConfig, dice: BatchRandom) -> Tensor:
    gain = 1 + _column(_uniform(config.gain, dice))
    gamma = 1 + _column(_uniform(config.gamma, dice))
    if config.blur:
        share = _column(dice.uniform() * config.blur)
        image = torch.lerp(image, F.avg_pool2d(image, 3, 1, 1, count_include_pad=False), share)
    height, width = image.shape[-2:]
    noise = dice.noise(height, width)
    if config.grain:
        coarse = F.interpolate(
            dice.noise((height + 1) // 2, (width + 1) // 2), noise.shape[-2:], mode="bilinear"
        )
        noise = torch.lerp(noise, coarse * 1.5, _column(dice.uniform() * config.grain))
    return (image.clamp(1e-4, 1) ** gamma * gain * (1 + config.speckle * noise)).clamp(0, 1)


def _column(values: Tensor) -> Tensor:
    """One value a frame [n] as [n, 1, 1, 1]."""
    return values[:, None, None, None]
