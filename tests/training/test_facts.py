"""Texts that state one fact are positives of each other, and regions have a weight of their own."""

import pytest
import torch
from torch.nn.functional import normalize

from sono.training.facts import Facts, numbers
from sono.training.losses import Targets, softmax_direction
from sono.training.objectives import role_weights
from sono.training.region_pool import masked_mean

TRUE = [("plane femur", "femur at 22 weeks"), ("plane femur", "femur at 23 weeks"), ("plane eye", "eye at 22 weeks")]


def test_a_text_is_true_by_the_short_fact_or_the_whole_caption() -> None:
    facts = Facts.of(["plane femur", "femur at 23 weeks", "plane eye"], TRUE, [False] * 3)
    positives = Targets(facts.true, facts.stated).positives()
    assert positives.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert torch.equal(Targets(facts.stated, facts.true).positives(), positives.T)


def test_numbers_of_facts_are_the_same_wherever_they_are_made() -> None:
    assert numbers(["plane femur"]).tolist() == numbers(["x", "plane femur"])[1:].tolist()


@pytest.mark.parametrize("weight", [0.2, 0.5, 1.0])
def test_the_loss_is_the_weighted_mean_of_whole_frames_and_regions(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, columns = (normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=-1) for _ in range(2))
    regional = torch.tensor([False, True, True, False, True, True])
    ids, scale = torch.arange(6), torch.tensor(3.0, dtype=torch.float64)
    targets = Targets(ids, ids, groups=(regional, regional), weights=role_weights(regional, regional, weight))
    expected = 0.0
    for kind, share in ((False, 1 - weight), (True, weight)):
        places = [place for place in range(6) if bool(regional[place]) is kind]
        for place in places:
            logits = torch.stack([scale * (rows[place] @ columns[other]) for other in places])
            own = scale * (rows[place] @ columns[place])
            expected += share * float(logits.logsumexp(0) - own) / len(places)
    assert float(softmax_direction(rows, columns, scale, targets)) == pytest.approx(expected)


def test_equal_texts_leave_no_floor_in_the_loss() -> None:
    same = normalize(torch.ones(8, 4), dim=-1)
    loss = softmax_direction(same, same, torch.tensor(10.0), Targets(torch.zeros(8), torch.zeros(8)))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_the_mean_under_a_mask_counts_its_cells_alone() -> None:
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :2, :4] = 1  # the first two cells of the first row
    assert masked_mean(features, mask).tolist() == [[0.5]]
    assert masked_mean(features, torch.zeros_like(mask)).tolist() == [[0.0]]
