import unicodedata

import pytest
import torch

from sono.curation.core.planes import PLANES
from sono.templates.loader import load_templates
from sono.training.config import AugmentConfig
from sono.training.data.augment import augment, carries_side

STILL = AugmentConfig(
    rotation_degrees=0, scale=0, shift=0, flip=False, gain=0, gamma=0, speckle=0, mask_stray=0
)


def ramp(count: int = 1) -> torch.Tensor:
    return torch.linspace(0.1, 0.9, 16).expand(count, 1, 16, 16).clone()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def yes(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


def test_zero_ranges_change_nothing() -> None:
    image, mask = augment(ramp(), torch.ones(1, 1, 16, 16), yes(1), STILL, generator())
    assert torch.allclose(image, ramp(), atol=1e-4)
    assert bool(mask.all())


def test_a_whole_mask_stays_whole_under_any_motion() -> None:
    _, mask = augment(
        ramp(4), torch.ones(4, 1, 16, 16), yes(4), AugmentConfig(mask_stray=0), generator()
    )
    assert bool(mask.all())


def test_frame_and_mask_move_together() -> None:
    still_light = AugmentConfig(gain=0, gamma=0, speckle=0)
    square = torch.zeros(8, 1, 32, 32)
    square[:, :, 8:20, 10:24] = 1
    image, mask = augment(square, square, yes(8), still_light, generator(3))
    assert ((image >= 0.5).float() == mask).float().mean() > 0.995
    assert not torch.equal(mask, square)


def test_only_captions_without_a_side_are_mirrored() -> None:
    flip = STILL.model_copy(update={"flip": True})
    may = torch.tensor([True] * 32 + [False] * 32)
    image, _ = augment(ramp(64), torch.ones(64, 1, 16, 16), may, flip, generator())
    mirrored = image[:, 0, 0, 0] > image[:, 0, 0, -1]
    assert 8 < int(mirrored[:32].sum()) < 24
    assert int(mirrored[32:].sum()) == 0


def test_the_same_generator_gives_the_same_batch() -> None:
    first = augment(ramp(2), torch.ones(2, 1, 16, 16), yes(2), AugmentConfig(), generator(7))[0]
    assert torch.equal(
        first, augment(ramp(2), torch.ones(2, 1, 16, 16), yes(2), AugmentConfig(), generator(7))[0]
    )


def test_blur_lowers_the_contrast_of_neighbors_and_keeps_the_mean() -> None:
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 0.5 + 0.2
    image = checks.expand(8, 1, 16, 16).clone()
    smooth, _ = augment(
        image, torch.ones_like(image), yes(8), STILL.model_copy(update={"blur": 1.0}), generator()
    )
    assert float(smooth[..., 1:-1, 1:-1].std()) < 0.8 * float(image.std())
    assert abs(float(smooth.mean() - image.mean())) < 0.02


def test_grain_makes_neighboring_noise_alike() -> None:
    flat = torch.full((16, 1, 32, 32), 0.5)
    noisy = STILL.model_copy(update={"speckle": 0.2})
    likeness = []
    for grain in (0.0, 1.0):
        picture, _ = augment(
            flat, flat.ceil(), yes(16), noisy.model_copy(update={"grain": grain}), generator()
        )
        left, right = picture[..., :-1].flatten() - 0.5, picture[..., 1:].flatten() - 0.5
        likeness.append(float((left * right).mean() / (left * left).mean()))
    assert abs(likeness[0]) < 0.1
    assert likeness[1] > 0.15


SIDED = (
    "The left ventricle in a fetal ultrasound image of the four-chamber plane.",
    "Fetal heart, Right-sided aortic arch",
    "A femur on the left side.",
    "left",
    "apex points leftward",
    "dextrocardia",
    "dextroposition of the heart",
    "laevocardia",
    "situs inversus",
    "LVOT view",
    "Lt kidney",
    "LA and RA",
    "rein gauche",
    "riñón derecho",
    "linke Niere",
    "rene sinistro",
    "胎儿左肾",
    "Kidney L",
    "R kidney in sagittal view",
    "L-sided stomach",
    "apex to the L",
    "kidney_L, left_kidney",
    "22 weeks, L/R",
    "2 L kidneys",
    "rein G",
    "levorotation",
    "RPA",
    "HLHS",
    "izq. riñón",
    "riñón der.",
    "rene dx",
    "re. Niere",
    "Niere li",
    "linksseitig",
    "rechtes Ohr",
    "rechternier",
    "ren sin. in long section",
    "vänster njure",
    unicodedata.normalize("NFD", "höger njure"),
    "venstre nyre",
    "hø. nyre",
    "lewa nerka",
    "pravá ledvina",
    "lijevi bubreg",
    "левая почка",
    "справа",
    "sol böbrek",
    "vasen munuainen",
    "bal vese",
    "rinichiul stâng",
    "δεξιός νεφρός",
)
SIDELESS = (
    "A fetal ultrasound image of the femur plane.",
    "The cleft lip in a fetal ultrasound image of the facial profile plane.",
    "bright echoes, upright view",
    "horizontal four-chamber plane on both sides",
    "Fetal ultrasound, three-vessel-trachea view.",
    "at 22 weeks and 3 days of gestation in breech presentation",
    "at the level of L4, T2 and Th12, 1.5 L of fluid, 250 mL, 3D, 2 D, 4-D",
    "L'abdomen du foetus",
    "der Kopf des Feten, regelrechte Darstellung",
    "prawidłowa kość, правильный вид, sagittal, a re-scan by the sonographer",
    "bilateral kidneys, deranged flow, rectal, derived, relation, balance, linear, solid, dilated",
    "",
)
ORDINARY = {
    "ga": "22 weeks and 3 days",
    "weeks": 22,
    "days": 157,
    "presentation": "cephalic",
    "laterality": "both",
}


@pytest.mark.parametrize("caption", SIDED)
def test_words_that_a_mirror_would_make_untrue_are_seen(caption: str) -> None:
    assert carries_side(caption)


@pytest.mark.parametrize("caption", SIDELESS)
def test_words_that_only_look_like_a_side_are_not(caption: str) -> None:
    assert not carries_side(caption)


@pytest.mark.parametrize("template", ["standard", "short", "sonoclip"])
def test_captions_of_the_24_planes_are_mirrored_unless_they_name_a_side(template: str) -> None:
    templates, texts = load_templates(template), list[str]()
    unsaid = dict.fromkeys(templates.names("global") | templates.names("region"))
    for plane in PLANES:
        values = {**unsaid, **ORDINARY, "plane": plane.name, "region": plane.region}
        texts += templates.render_prompts(plane.name)
        for names in (None, ", ".join(plane.structures)):
            texts.append(templates.render_global({**values, "structures": names}))
        texts += [
            templates.render_region({**values, "structure": name}) for name in plane.structures
        ]
    assert [carries_side(text) for text in texts] == [
        bool({"left", "right"} & set(text.split())) for text in texts
    ]
    assert 0 < sum(map(carries_side, texts)) < len(texts) / 2


def squares(count: int = 1) -> torch.Tensor:
    mask = torch.zeros(count, 1, 32, 32)
    mask[:, :, 12:20, 10:24] = 1
    return mask


def reshaped(mask: torch.Tensor, **settings: float) -> torch.Tensor:
    frame = torch.full_like(mask, 0.5)
    return augment(frame, mask, yes(len(mask)), STILL.model_copy(update=settings), generator())[1]


def test_whole_frames_get_stray_masks_as_often_as_asked_and_regions_keep_theirs() -> None:
    whole, region = torch.ones(400, 1, 24, 24), squares(400)[..., :24, :24]
    changes = {"mask_stray": 0.25}
    strays = reshaped(whole, **changes).flatten(1).mean(1)
    assert float((strays < 1).float().mean()) == pytest.approx(0.25, abs=0.06)
    some = strays[strays < 1]
    assert 0 < float(some.min()) < 0.1
    assert 0.4 < float(some.max()) < 0.9
    assert torch.equal(reshaped(region, **changes), region)
