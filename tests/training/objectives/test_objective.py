"""The loss of a batch on one process and on two, which are forks of this one."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from clip_files import TINY
from quick import mixed
from torch import Tensor
from torch.nn.functional import normalize
from waiting import LIMIT

from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch
from sono.training.model import architectures
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip
from sono.training.objectives.attributes import Attributes, AttributeTable
from sono.training.objectives.facts import Facts, numbers
from sono.training.objectives.losses import identity_targets, sigmoid_loss
from sono.training.objectives.objective import (
    Heads,
    Pairs,
    load_heads,
    pairs_loss,
    save_heads,
    starting_bias,
)
from sono.training.step import Learner

CAPTIONS = ["a femur", "a head", "a femur", "a heart", "a head", "a spine", "a femur", "a face"]
SAID = [
    Attributes(
        ("head", name),
        frozenset({("structures", "spine")} if row % 3 else ()),
        100 + 9 * row if row % 2 else None,
    )
    for row, name in enumerate(CAPTIONS)
]
# A place with an odd number is a region pair; half of the texts state the short fact.
FACTS = Facts.of(
    [text if row % 3 else f"structure {text}" for row, text in enumerate(CAPTIONS)],
    [(f"structure {text}", text) for text in CAPTIONS],
    [bool(row % 2) for row in range(8)],
)
SETTINGS = {
    "identity": mixed(objective="sigmoid"),
    "caption": mixed(objective="sigmoid", targets="caption"),
    "softmax": mixed(objective="softmax", targets="caption"),
    "softmax identity": mixed(objective="softmax"),
    "semantic": mixed(objective="sigmoid", semantic_weight=0.7, loss_chunk=3),
    "fact": TrainingConfig(targets="fact", region_weight=0.5),
    "fact, sigmoid": TrainingConfig(
        objective="sigmoid", targets="fact", region_weight=0.3, loss_chunk=3
    ),
    "fact, chunks": TrainingConfig(targets="fact", region_weight=0.8, loss_chunk=2),
}


def parameters() -> dict[str, Tensor]:
    """Two linear towers, scale and bias."""
    generator = torch.Generator().manual_seed(3)
    towers = {
        name: torch.randn(6, 4, generator=generator, dtype=torch.float64)
        for name in ("image", "text")
    }
    scalars = {
        "scale": torch.tensor(1.2, dtype=torch.float64),
        "bias": torch.tensor(-2.0, dtype=torch.float64),
    }
    return {name: value.requires_grad_() for name, value in (towers | scalars).items()}


def loss_of(config: TrainingConfig, weights: dict[str, Tensor], rows: slice) -> Tensor:
    """The loss of some rows of a batch of eight, through the towers."""
    inputs = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)[
        :, rows
    ]
    image, text = (
        normalize(inputs[i] @ weights[name], dim=-1) for i, name in enumerate(("image", "text"))
    )
    said = AttributeTable(SAID).of(SAID[rows])
    facts = Facts.of(
        CAPTIONS[rows], [(text, text) for text in CAPTIONS[rows]], [False] * len(CAPTIONS[rows])
    )
    pairs = Pairs(image, text, numbers(CAPTIONS[rows]), said, facts)
    return pairs_loss(pairs, weights["scale"].exp(), weights["bias"], config)


def learned(config: TrainingConfig, rows: slice) -> dict[str, Tensor]:
    """The loss, and the gradient of each weight."""
    weights = parameters()
    loss = loss_of(config, weights, rows)
    loss.backward()
    return {"loss": loss.detach()} | {
        name: weight.grad for name, weight in weights.items() if weight.grad is not None
    }


def learned_by_heads(rows: slice) -> dict[str, Tensor]:
    """Likewise of a whole model with graph and reconstruction.

    One half has one region, the other four.
    """
    architectures.SIZES["tiny3"] = TINY
    torch.manual_seed(5)
    config = TrainingConfig(
        semantic_weight=0.5, graph_gate=0.1, reconstruction_weight=0.3, precision="float32"
    )
    table = AttributeTable(SAID)
    learner = Learner(MaskClip(ModelConfig(name="tiny3")), Heads(config, table.rows, 16), config)
    image, mask = torch.rand(8, 1, 32, 32), torch.zeros(8, 1, 32, 32)
    mask[:, :, 4:20, 8:30], mask[1:4] = 1, 1
    loss = learner(
        Batch(
            image[rows],
            mask[rows],
            CAPTIONS[rows],
            list(range(8))[rows],
            table.of(SAID[rows]),
            FACTS.at(rows),
        )
    )
    loss.backward()
    assert [name for name, weight in learner.named_parameters() if weight.grad is None] == []
    return {"loss": loss.detach()} | {
        name: weight.grad for name, weight in learner.named_parameters()
    }


def one_of_two(rank: int, folder: Path) -> None:
    """Meet half of the batch, average over the processes as DDP does, and write what came out."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2
    )
    half = slice(4 * rank, 4 * rank + 4)
    found = {name: learned(config, half) for name, config in SETTINGS.items()} | {
        "heads": learned_by_heads(half)
    }
    for values in found.values():
        for value in values.values():
            dist.all_reduce(value)
            value.div_(2)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("two")
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=one_of_two, args=(rank, folder), daemon=True) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(LIMIT)
    assert [process.exitcode for process in both] == [0, 0]
    found: dict[str, dict[str, Tensor]] = torch.load(folder / "1.pt", weights_only=True)
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_learn_what_one_learns_from_the_whole_batch(
    name: str, two: dict[str, dict[str, Tensor]]
) -> None:
    whole = learned(SETTINGS[name], slice(0, 8))
    assert whole.keys() == two[name].keys() == {"loss", "image", "text", "scale", "bias"}
    for key, value in whole.items():
        assert torch.allclose(two[name][key], value, rtol=1e-6, atol=1e-9), key


def test_two_processes_learn_graph_and_reconstruction_from_the_whole_batch(
    two: dict[str, dict[str, Tensor]],
) -> None:
    whole = learned_by_heads(slice(0, 8))
    assert (
        {"heads.graph.opening", "heads.reconstruction.guess.0.weight"}
        <= whole.keys()
        == two["heads"].keys()
    )
    for key, value in whole.items():
        assert torch.allclose(two["heads"][key], value, rtol=1e-4, atol=1e-6), key


def test_the_published_objective_is_siglips() -> None:
    weights = parameters()
    inputs = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    image, text = (
        normalize(inputs[i] @ weights[name], dim=-1) for i, name in enumerate(("image", "text"))
    )
    plain = sigmoid_loss(image, text, weights["scale"].exp(), weights["bias"], identity_targets(8))
    assert torch.equal(loss_of(mixed(objective="sigmoid"), weights, slice(0, 8)), plain)


def test_the_semantic_loss_counts_by_its_weight() -> None:
    losses = [
        float(loss_of(mixed(semantic_weight=weight), parameters(), slice(0, 8)).detach())
        for weight in (0.0, 1.0, 2.0)
    ]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0])
    assert losses[1] > losses[0]


def test_the_bias_starts_where_it_was_asked_to() -> None:
    assert starting_bias(TrainingConfig(), -10.0, 32) == -10.0
    assert starting_bias(TrainingConfig(bias="auto"), -10.0, 32) == pytest.approx(-3.434, abs=1e-3)


def test_heads_are_there_where_they_are_asked_for_and_come_back(tmp_path: Path) -> None:
    rows = AttributeTable(SAID).rows
    assert list(Heads(TrainingConfig(), rows, 4).parameters()) == []
    config = TrainingConfig(graph_gate=0.05, reconstruction_weight=0.1)
    one, other = Heads(config, rows, 4), Heads(config, rows, 4)
    with pytest.raises(SonoError, match="missing or damaged"):
        load_heads(tmp_path, other)
    save_heads(tmp_path, one.state_dict())
    load_heads(tmp_path, other)
    assert all(
        torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()
    )
