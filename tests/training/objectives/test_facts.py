"""Texts that state one fact are positives of each other, and regions have a weight of their own."""

import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch, Example, MaskedRegion, PairMixture, PairSet, draw_batch
from sono.training.model.region_pool import masked_mean
from sono.training.objectives.attributes import NOTHING, AttributeTable
from sono.training.objectives.facts import Facts, numbers
from sono.training.objectives.losses import Targets, softmax_direction
from sono.training.objectives.objective import Pairs, pairs_loss, role_weights

TRUE = [
    ("plane femur", "femur at 22 weeks"),
    ("plane femur", "femur at 23 weeks"),
    ("plane eye", "eye at 22 weeks"),
]


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
    rows, columns = (
        normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=-1)
        for _ in range(2)
    )
    regional = torch.tensor([False, True, True, False, True, True])
    ids, scale = torch.arange(6), torch.tensor(3.0, dtype=torch.float64)
    targets = Targets(
        ids, ids, groups=(regional, regional), weights=role_weights(regional, regional, weight)
    )
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
    loss = softmax_direction(
        same, same, torch.tensor(10.0), Targets(torch.zeros(8), torch.zeros(8))
    )
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_the_mean_under_a_mask_counts_its_cells_alone() -> None:
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :2, :4] = 1  # the first two cells of the first row
    assert masked_mean(features, mask).tolist() == [[0.5]]
    assert masked_mean(features, torch.zeros_like(mask)).tolist() == [[0.0]]


# Two planes and two structures; a text states the short fact or the whole caption, which rows 0 and
# 2 share.
STATED = [
    "plane femur", "plane eye", "femur at 22 weeks", "structure femur", "the femur",
    "structure lens", "the lens",
    "plane femur",
]  # fmt: skip
HOLDS = [
    ("plane femur", "femur at 22 weeks"), ("plane eye", "eye at 22 weeks"),
    ("plane femur", "femur at 22 weeks"), ("structure femur", "a long femur"),
    ("structure femur", "the femur"), ("structure lens", "a lens"), ("structure lens", "the lens"),
    ("plane femur", "femur at 24 weeks"),
]  # fmt: skip
REGIONAL = ["structure" in short for short, _ in HOLDS]


def batch_of(rows: list[int], same: bool = False) -> Pairs:
    """Pairs of random unit features, or of features that are all the same."""
    generator = torch.Generator().manual_seed(7)
    image, text = normalize(
        torch.randn(2, len(HOLDS), 4, generator=generator, dtype=torch.float64), dim=-1
    )[:, rows]
    if same:
        image = text = image[:1].expand(len(rows), -1)
    stated, holds = [STATED[row] for row in rows], [HOLDS[row] for row in rows]
    facts = Facts.of(stated, holds, [REGIONAL[row] for row in rows])
    return Pairs(
        image, text, numbers(stated), AttributeTable([NOTHING]).of([NOTHING] * len(rows)), facts
    )


def settings(objective: str, weight: float, **changes: Any) -> TrainingConfig:
    return TrainingConfig(
        **{"objective": objective, "targets": "fact", "region_weight": weight} | changes
    )


SCALE, BIAS = 3.0, -1.0


def loss_of(pairs: Pairs, config: TrainingConfig) -> float:
    scale, bias = (torch.tensor(value, dtype=torch.float64) for value in (SCALE, BIAS))
    return float(pairs_loss(pairs, scale, bias, config))


def written_out(pairs: Pairs, rows: list[int], objective: str) -> float:
    """The loss of a batch that consists of `rows` alone, where the places are the rows of `STATED`.

    Cell by cell.
    """
    logits = [[SCALE * float(pairs.image[i] @ pairs.text[j]) for j in rows] for i in rows]
    right = [[STATED[j] in HOLDS[i] for j in rows] for i in rows]
    if objective == "sigmoid":
        signs = [[1 if cell else -1 for cell in row] for row in right]
        cells = [
            math.log1p(math.exp(-sign * (logit + BIAS)))
            for told, row in zip(signs, logits, strict=True)
            for sign, logit in zip(told, row, strict=True)
        ]
        return sum(cells) / len(rows)
    directions = []
    for values, found in (
        (logits, right),
        (list(zip(*logits, strict=True)), list(zip(*right, strict=True))),
    ):
        losses = []
        for row, told in zip(values, found, strict=True):
            shares = [math.exp(value) / sum(map(math.exp, row)) for value in row]
            own = [-math.log(share) for share, cell in zip(shares, told, strict=True) if cell]
            losses.append(sum(own) / len(own) - math.log(len(own)))
        directions.append(sum(losses) / len(losses))
    return sum(directions) / 2


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("chunk", [0, 3])
def test_the_loss_is_the_weighted_mean_of_two_losses_that_are_computed_apart(
    objective: str, weight: float, chunk: int
) -> None:
    pairs = batch_of(list(range(8)))
    whole, regions = ([row for row in range(8) if REGIONAL[row] is kind] for kind in (False, True))
    assert (len(whole), len(regions)) == (4, 4)
    expected = (1 - weight) * written_out(pairs, whole, objective) + weight * written_out(
        pairs, regions, objective
    )
    found = loss_of(pairs, settings(objective, weight, loss_chunk=chunk))
    assert found == pytest.approx(expected, rel=1e-6)
    assert found != pytest.approx(written_out(pairs, list(range(8)), objective), rel=1e-2)


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
def test_kinds_count_by_their_weight_and_not_by_their_number(objective: str) -> None:
    pairs = batch_of(list(range(8)))
    some = batch_of([0, 1, 2, 7, 3])  # one region pair
    whole = written_out(pairs, [0, 1, 2, 7], objective)
    found = loss_of(some, settings(objective, 0.25))
    assert found == pytest.approx(
        0.75 * whole + 0.25 * written_out(pairs, [3], objective), rel=1e-6
    )
    # a batch of one kind alone has its whole loss
    assert loss_of(batch_of([0, 1, 2, 7]), settings(objective, 0.25)) == pytest.approx(
        whole, rel=1e-6
    )


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
def test_without_a_weight_of_regions_all_pairs_meet_in_one_loss(objective: str) -> None:
    pairs = batch_of(list(range(8)))
    assert loss_of(pairs, settings(objective, 0.0)) == pytest.approx(
        written_out(pairs, list(range(8)), objective), rel=1e-6
    )


@pytest.mark.parametrize(("targets", "rows"), [("fact", [0, 7, 0, 7]), ("caption", [0, 0, 0, 0])])
def test_equal_texts_on_equal_features_cost_nothing(targets: str, rows: list[int]) -> None:
    """Frames of two captions with one short text, which is a fact of both; or one caption."""
    same = batch_of(rows, same=True)
    assert loss_of(same, settings("softmax", 0.0, targets=targets)) == pytest.approx(0.0, abs=1e-9)
    assert loss_of(same, settings("softmax", 0.0, targets="identity")) == pytest.approx(math.log(4))
    both = batch_of([*rows, 3, 3, 3, 3], same=True)
    assert loss_of(both, settings("softmax", 0.5, targets=targets)) == pytest.approx(0.0, abs=1e-9)
    # where regions meet whole frames, half of the texts are not true
    assert loss_of(both, settings("softmax", 0.0, targets=targets)) == pytest.approx(math.log(2))


def drawn(mixture: PairMixture, regional: bool, *frames: Example) -> Batch:
    pairs = PairSet(np.zeros((len(frames), 8, 8), np.uint8), frames)
    kinds = [regional] * len(frames)
    return draw_batch(
        pairs, range(len(frames)), mixture, torch.Generator().manual_seed(0), regional=kinds
    )


def frame(number: int, plane: str | None, caption: str, structure: str) -> Example:
    runs = np.array([63, 1], np.uint32)
    region = MaskedRegion(
        runs, f"the {structure} of {caption}", structure=structure, prompts=(f"a {structure}",)
    )
    return Example(str(number), plane, caption, () if plane is None else (f"a {plane}",), (region,))


FRAMES = (
    frame(0, "femur", "a femur at 22 weeks", "femur"),
    frame(1, "femur", "a femur at 23 weeks", "femur"),
    frame(2, "eye", "an eye at 22 weeks", "lens"),
    frame(3, None, "an unknown plane", "femur"),
    frame(4, "femur", "a femur at 22 weeks", "femur"),
)


@pytest.mark.parametrize("regional", [False, True])
def test_a_short_prompt_is_true_of_all_frames_of_its_kind_and_a_caption_of_those_that_have_it(
    regional: bool,
) -> None:
    short = positives(drawn(PairMixture(0.0, 1.0, None, region_prompts=1.0), regional, *FRAMES))
    long = positives(drawn(PairMixture(0.0, 0.0, None, region_prompts=0.0), regional, *FRAMES))
    if regional:  # the structure, whatever the plane
        assert short == [{0, 1, 3, 4}, {0, 1, 3, 4}, {2}, {0, 1, 3, 4}, {0, 1, 3, 4}]
    else:  # a frame without a plane has its caption alone
        assert short == [{0, 1, 4}, {0, 1, 4}, {2}, {3}, {0, 1, 4}]
    assert long == [{0, 4}, {1}, {2}, {3}, {0, 4}]


def test_what_is_true_under_a_mask_is_not_true_of_the_whole_frame() -> None:
    mixture = PairMixture(0.0, 1.0, None, region_prompts=1.0)
    whole, region = (drawn(mixture, kind, *FRAMES).facts for kind in (False, True))
    assert not bool(Targets(whole.true, region.stated).positives().any())
    assert not bool(Targets(region.true, whole.stated).positives().any())


def positives(batch: Batch) -> list[set[int]]:
    """Of which frames each text is true."""
    found = Targets(batch.facts.stated, batch.facts.true).positives()
    return [set(row.nonzero().flatten().tolist()) for row in found]


def test_numbers_are_the_same_in_a_process_of_its_own() -> None:
    names = ["plane femur", "a caption of an Äste"]
    code = f"from sono.training.objectives.facts import numbers; print(numbers({names!r}).tolist())"
    environment = os.environ | {
        "PYTHONHASHSEED": "12345",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert json.loads(told.stdout) == numbers(names).tolist()
