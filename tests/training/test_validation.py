"""Scores of validation: naming regions in closed form, and what picks the best epoch."""

import numpy as np
import pytest
import torch
from quick import quick
from torch import Tensor, nn

from sono.training.data.pairs import Example, MaskedRegion, PairSet
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip
from sono.training.runs.log import COLUMNS
from sono.training.validation import naming_accuracy, score_of, validate

SIDE = 32
NAMES = ("brain", "cavum", "femur", "heart", "spine")
PROMPTS = {name: (f"a {name}", f"the {name} of a fetus") for name in NAMES}


class AreaClip(nn.Module):
    """Reads from the area of the mask which structures it answers, the likeliest first.

    Under no mask nothing.
    """

    def __init__(self, *answers: tuple[str, ...]) -> None:
        """The answers under a mask of 1 pixel, of 2 pixels, and so on."""
        super().__init__()
        self.answers = answers
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        features = torch.zeros(len(mask), len(NAMES))
        for row, area in enumerate(mask.sum((1, 2, 3)).int().tolist()):
            for place, name in enumerate(self.answers[area - 1]):
                features[row, NAMES.index(name)] = 1 / (place + 1)
        return features

    def encode_texts(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(name in text) for name in NAMES] for text in texts])


def region(structure: str, area: int, prompts: tuple[str, ...] | None = None) -> MaskedRegion:
    """A mask of as many pixels as its area."""
    runs = np.array([SIDE * SIDE - area, area], np.uint32)
    texts = PROMPTS[structure] if prompts is None else prompts
    return MaskedRegion(runs, f"caption of a {structure}", structure=structure, prompts=texts)


def pairs_of(*frames: tuple[str | None, list[MaskedRegion]]) -> PairSet:
    """Frames of noise, each of a plane with regions."""
    noise = np.random.default_rng(0).integers(0, 255, (len(frames), SIDE, SIDE), np.uint8)
    return PairSet(
        noise,
        tuple(
            Example(
                str(row),
                plane,
                f"caption {row}",
                () if plane is None else (f"the plane {plane}",),
                tuple(regions),
            )
            for row, (plane, regions) in enumerate(frames)
        ),
    )


HEADS = pairs_of(
    ("head", [region("brain", 1), region("cavum", 2)]),
    ("head", [region("brain", 3)]),
    ("head", [region("brain", 4)]),
    ("chest", [region("heart", 5), region("spine", 6)]),
)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_naming_is_the_mean_over_structures_of_the_share_that_is_right(batch_size: int) -> None:
    model = AreaClip(("brain",), ("cavum",), ("brain",), ("cavum",), ("spine",), ("heart",))
    # brain 2 of 3, cavum 1 of 1, heart 0 of 1, spine 0 of 1: 0.417, where 3 of all 6 are right
    assert naming_accuracy(model, HEADS, batch_size) == pytest.approx((2 / 3 + 1 + 0 + 0) / 4)


def test_only_structures_of_the_plane_are_answers() -> None:
    model = AreaClip(
        ("heart", "brain"),
        ("femur", "cavum"),
        ("spine", "cavum"),
        ("brain",),
        ("heart",),
        ("spine",),
    )
    # the likeliest answers of the first three are structures of another plane; then brain, cavum,
    # and a wrong cavum
    assert naming_accuracy(model, HEADS) == pytest.approx((2 / 3 + 1 + 1 + 1) / 4)


def test_a_structure_is_the_mean_of_its_phrasings() -> None:
    """One of two phrasings of a heart contains brain, so its class is between the two."""
    heart = region("heart", 1, prompts=("a heart", "a brain"))
    pairs = pairs_of(("chest", [heart, region("brain", 2)]))
    model = AreaClip(("heart", "brain"), ("brain",))
    # cosines of the first: heart (1 + 1/2) / sqrt 2 against brain 1/2; of the second: 1 / sqrt 2
    # against 1
    assert naming_accuracy(model, pairs) == 1.0
    # 1.5 / sqrt 2 is still above 1
    assert naming_accuracy(AreaClip(("brain", "heart"), ("brain",)), pairs) == 1.0
    assert naming_accuracy(AreaClip(("brain",), ("brain",)), pairs) == 0.5


def test_without_two_structures_in_a_plane_nothing_can_be_named() -> None:
    model = AreaClip(("brain",), ("heart",))
    assert (
        naming_accuracy(
            model, pairs_of(("head", [region("brain", 1)]), ("chest", [region("heart", 2)]))
        )
        is None
    )
    assert naming_accuracy(model, pairs_of(("head", []))) is None
    # as in older shards
    unnamed = pairs_of(("head", [region("brain", 1), region("cavum", 2, prompts=())]))
    assert naming_accuracy(model, unnamed) is None


def test_planes_with_one_structure_are_not_asked() -> None:
    pairs = pairs_of(
        ("head", [region("brain", 1), region("cavum", 2)]), ("leg", [region("femur", 3)])
    )
    assert naming_accuracy(AreaClip(("brain",), ("cavum",), ("brain",)), pairs) == 1.0


def test_structures_of_one_plane_may_be_in_different_frames() -> None:
    pairs = pairs_of(("head", [region("brain", 1)]), ("head", [region("cavum", 2)]))
    assert naming_accuracy(AreaClip(("brain",), ("brain",)), pairs) == 0.5


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"val_loss": 2.0, "val_top1_macro": 0.6, "val_naming_macro": 0.2}, 0.4),
        ({"val_loss": 2.0, "val_top1_macro": 0.6}, 0.6),
        ({"val_loss": 2.0, "val_naming_macro": 0.0}, 0.0),  # 0 is a score, not a missing one
        ({"val_loss": 2.0}, -2.0),
        ({}, None),
    ],
)
def test_the_best_epoch_is_picked_by_what_was_measured(
    scores: dict[str, float], told: float | None
) -> None:
    assert score_of(scores) == (None if told is None else pytest.approx(told))


def test_validation_tells_naming_where_the_data_show_it_and_the_log_has_a_column_for_it(
    tiny: str,
) -> None:
    torch.manual_seed(0)
    config = quick(model=tiny, epochs=4, batch_size=4, validate_every=2, precision="float32")
    model = MaskClip(ModelConfig(name=tiny))
    assert validate(model, HEADS, config, epoch=0) == {}
    scores = validate(model, HEADS, config, epoch=1)
    assert scores.keys() == {"val_loss", "val_top1_macro", "val_naming_macro"} <= {*COLUMNS}
    assert scores["val_naming_macro"] == naming_accuracy(model, HEADS)
    plain = pairs_of(("head", [region("brain", 1)]), ("chest", []))
    assert validate(model, plain, config, epoch=3).keys() == {"val_loss", "val_top1_macro"}
    assert validate(model, pairs_of(("head", []), ("head", [])), config, epoch=3).keys() == {
        "val_loss"
    }
