import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sono.training.config import MAX_GATE
from sono.training.objectives.attributes import AttributeRows, Attributes, AttributeTable
from sono.training.objectives.graph import AttributeGraph

CAPTIONS = [
    Attributes(
        ("head", "transthalamic"),
        frozenset({("structures", "fetal head"), ("structures", "thalami")}),
    ),
    Attributes(("head", "transventricular"), frozenset({("structures", "fetal head")})),
    Attributes(("lower limb", "femur"), frozenset({("structures", "femur")})),
    Attributes(),
]
TABLE = AttributeTable(CAPTIONS)


def graph(gate: float = 0.1) -> AttributeGraph:
    torch.manual_seed(0)
    return AttributeGraph(TABLE.rows, 8, gate)


def texts() -> Tensor:
    return normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=-1)


def fused(gate: float) -> Tensor:
    features: Tensor = graph(gate)(texts(), TABLE.of(CAPTIONS)).detach()
    return features


def test_fused_features_have_unit_length_and_stay_near_the_text() -> None:
    module = graph()
    # a gate that has run away, and attributes that say all they can
    module.opening.data.fill_(100.0)
    module.project.bias.data.uniform_(-50, 50)
    features = module(texts(), TABLE.of(CAPTIONS)).detach()
    assert torch.allclose(features.norm(dim=-1), torch.ones(4))
    near = (features * texts()).sum(1)
    assert (near >= (1 - MAX_GATE**2) ** 0.5 - 1e-6).all() and (near[:3] < 0.9999).all()


@pytest.mark.parametrize("gate", [1e-3, 0.05, MAX_GATE])
def test_the_gate_starts_where_it_was_asked_to_and_can_close(gate: float) -> None:
    module = graph(gate)
    assert float(MAX_GATE * module.opening.detach().sigmoid()) == pytest.approx(gate, rel=0.011)
    module(texts(), TABLE.of(CAPTIONS))[:3, 0].sum().backward()
    assert module.opening.grad is not None and float(module.opening.grad.abs()) > 0


def test_a_closed_gate_and_a_caption_that_tells_nothing_change_nothing() -> None:
    assert torch.allclose(fused(0.0), texts())
    assert torch.allclose(fused(0.2)[3], texts()[3])


def test_edges_join_what_captions_tell_together_and_are_balanced() -> None:
    edges = graph().edges
    known = graph().planes > 0
    assert edges[known].gt(0).sum(1).tolist() == [2, 1, 1]
    # the fetal head is shared by both planes of the head, and one of these has two structures
    assert sorted(edges[edges > 0].tolist()) == pytest.approx(sorted([0.5, 2**-0.5, 2**-0.5, 1.0]))


def test_a_shared_structure_carries_messages_between_planes() -> None:
    prompts = [Attributes(one.path) for one in CAPTIONS[:3]]  # their planes alone, no structure
    table = AttributeTable([*CAPTIONS, *prompts])
    torch.manual_seed(0)
    module = AttributeGraph(table.rows, 8, 0.1)
    before = module(texts()[:3], table.of(prompts)).detach()
    other = module.planes == table.of(prompts).path[1, 1]
    module.plane_nodes.data[other] += 1
    moved = (module(texts()[:3], table.of(prompts)).detach() - before).abs().amax(1) > 1e-6
    assert moved.tolist() == [True, True, False]


def test_every_weight_is_there_from_the_start_and_learns() -> None:
    module = graph()
    module(texts(), TABLE.of(CAPTIONS)).square()[:, 0].sum().backward()
    assert {name for name, weight in module.named_parameters() if weight.grad is None} == set()
    assert {"opening", "plane_nodes", "value_nodes", "project.weight", "layers.1.weight"} <= set(
        module.state_dict()
    )


def test_a_set_without_attributes_has_an_empty_graph() -> None:
    rows: AttributeRows = AttributeTable([Attributes()]).rows
    torch.manual_seed(0)
    assert torch.allclose(AttributeGraph(rows, 8, 0.1)(texts()[:1], rows), texts()[:1])
