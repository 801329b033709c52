import torch

from sono.training.augment import augment
from sono.training.config import AugmentConfig

STILL = AugmentConfig(rotation_degrees=0, scale=0, shift=0, flip=False, gain=0, gamma=0, speckle=0)


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
    _, mask = augment(ramp(4), torch.ones(4, 1, 16, 16), yes(4), AugmentConfig(), generator())
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
    assert torch.equal(first, augment(ramp(2), torch.ones(2, 1, 16, 16), yes(2), AugmentConfig(), generator(7))[0])


def test_blur_lowers_the_contrast_of_neighbours_and_keeps_the_mean() -> None:
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 0.5 + 0.2
    image = checks.expand(8, 1, 16, 16).clone()
    smooth, _ = augment(image, torch.ones_like(image), yes(8), STILL.model_copy(update={"blur": 1.0}), generator())
    assert float(smooth[..., 1:-1, 1:-1].std()) < 0.8 * float(image.std())
    assert abs(float(smooth.mean() - image.mean())) < 0.02


def test_grain_makes_neighbouring_noise_alike() -> None:
    flat = torch.full((16, 1, 32, 32), 0.5)
    noisy = STILL.model_copy(update={"speckle": 0.2})
    likeness = []
    for grain in (0.0, 1.0):
        picture, _ = augment(flat, flat.ceil(), yes(16), noisy.model_copy(update={"grain": grain}), generator())
        left, right = picture[..., :-1].flatten() - 0.5, picture[..., 1:].flatten() - 0.5
        likeness.append(float((left * right).mean() / (left * left).mean()))
    assert abs(likeness[0]) < 0.1
    assert likeness[1] > 0.15
