"""The settings of a run have ranges within which every number works."""

import pytest
import torch

from sono.curation.core.config import MAX_SEED, override, validated
from sono.curation.core.errors import SonoError
from sono.training.config import AugmentConfig, TrainingConfig
from sono.training.data.augment import augment
from sono.training.data.sampling import process_seed, seeded

UNFIT = {
    "rotation_degrees": (-20, 181), "scale": (-0.5, 1), "shift": (-0.1, 5), "gain": (-3, 1),
    "gamma": (-1, 2), "speckle": (-1, 5), "grain": (-4, 2), "blur": (-1, 7),
    "mask_stray": (-1, 900),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, pair in UNFIT.items() for value in pair]
)
def test_an_augmentation_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(
        SonoError, match=rf"'training\.augment\.{name}' is {value}: input should be"
    ):
        validated({"augment": {name: value}}, "training", TrainingConfig)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_may_be_infinite_or_none(value: float) -> None:
    numbers = [
        name for name, field in TrainingConfig.model_fields.items() if field.annotation is float
    ]
    changes = [
        name for name, field in AugmentConfig.model_fields.items() if field.annotation is float
    ]
    assert {"learning_rate", "weight_decay", "semantic_weight"} <= set(numbers)
    for given in ({name: value} for name in numbers):
        with pytest.raises(SonoError, match=rf"is {value}: input should be"):
            validated(given, "training", TrainingConfig)
    for given in ({name: value} for name in changes):
        with pytest.raises(SonoError, match=rf"is {value}: input should be"):
            validated({"augment": given}, "training", TrainingConfig)


def test_the_widest_augmentation_leaves_frames_in_range() -> None:
    widest = AugmentConfig(
        rotation_degrees=180,
        scale=0.5,
        shift=0.5,
        gain=0.99,
        gamma=0.99,
        speckle=1,
        grain=1,
        blur=1,
        mask_stray=1,
    )
    image, mask = torch.rand(8, 1, 32, 32), torch.zeros(8, 1, 32, 32)
    frames, masks = augment(image, mask, torch.ones(8, dtype=torch.bool), widest, seeded(0, 0))
    assert 0 <= float(frames.min()) <= float(frames.max()) <= 1
    assert set(masks.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("seed", [-1, 10**23])
def test_a_seed_that_torch_cannot_take_is_one_line(seed: int) -> None:
    with pytest.raises(SonoError, match=r"'options\.seed' is -?\d+.*: input should be"):
        override(TrainingConfig(), seed=seed)


def test_torch_takes_every_seed_in_range() -> None:
    assert seeded(MAX_SEED, 10**9).initial_seed() == MAX_SEED * 1_000_003 + 10**9
    last = process_seed(MAX_SEED, 10**9)
    assert torch.Generator().manual_seed(last).initial_seed() == last


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"start": " "}, "give a name or a path"),
        ({"text": ""}, "give a name or a path"),
        (
            {"start": "weights/imagenet"},
            "ends in 'imagenet', which means something else; rename it",
        ),
        ({"text": "models/minilm"}, "ends in 'minilm', which means something else; rename it"),
        ({"trainable": "last:0"}, "choose heads, last:N"),
    ],
)
def test_a_place_that_a_record_could_not_tell_is_refused(
    changes: dict[str, str], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        TrainingConfig(**changes)  # type: ignore[arg-type]
