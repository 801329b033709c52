from typing import Any

import pytest
import torch

from sono.annotation.caption_facts import Facts
from sono.annotation.caption_writer import CaptionWriter
from sono.annotation.lint import LintRules
from sono.curation.clinical.findings import DIAGNOSIS, FINDINGS
from sono.curation.clinical.values import terms
from sono.curation.core.planes import PlaneTable
from sono.templates.loader import load_templates
from sono.training.objectives.attributes import (
    AttributeRows,
    Attributes,
    AttributeTable,
    caption_attributes,
    plane_path,
    soft_labels,
)
from sono.training.objectives.facts import numbers

PLANES = PlaneTable()
ATTRIBUTES = dict.fromkeys(one.attribute for one in FINDINGS.values())
DESCRIPTORS = {
    attribute: tuple(one.name for one in FINDINGS.values() if one.attribute == attribute)
    for attribute in ATTRIBUTES
    if attribute != DIAGNOSIS
}
IMAGE: dict[str, Any] = {
    "plane": "transthalamic",
    "region": "head",
    "ga_days": 157,
    "laterality": "both",
    "presentation": "breech",
    "findings": ["round", "ventriculomegaly"],
}


def caption(text: str, *fields: str) -> dict[str, Any]:
    return {"text": text, "fields": list(fields)}


def said(*captions: Attributes) -> AttributeRows:
    return AttributeTable(captions).of(captions)


def likeness(one: Attributes, other: Attributes) -> float:
    rows = said(one, other)
    return float(soft_labels(rows.at(slice(0, 1)), rows.at(slice(1, 2)), torch.tensor([[False]])))


def holding(*values: tuple[str, str]) -> Attributes:
    return Attributes(values=frozenset(values))


def test_a_caption_says_only_what_its_text_tells() -> None:
    whole = caption_attributes(
        caption("x fetal head y", "plane", "structures"), IMAGE, ["fetal head", "thalami"], PLANES
    )
    assert whole == Attributes(("head", "transthalamic"), frozenset({("structures", "fetal head")}))


@pytest.mark.parametrize("attribute", DESCRIPTORS)
def test_every_descriptor_is_a_finding_that_records_may_hold_and_captions_tell(
    attribute: str,
) -> None:
    found, problems = terms("finding", "; ".join(DESCRIPTORS[attribute]), FINDINGS)
    assert (found, problems) == (DESCRIPTORS[attribute], [])
    facts = Facts(plane="femur", findings=(*found, "hydronephrosis", "short femur"))
    written = CaptionWriter(
        load_templates("standard"), LintRules(lambda text: len(text.split()), PLANES)
    ).write(facts)
    row = caption(written.text, *written.fields)
    said = caption_attributes(
        row, IMAGE | {"plane": "femur", "findings": list(facts.findings)}, [], PLANES
    )
    # of its own plane
    assert said.values == {*((attribute, value) for value in found), ("diagnosis", "short femur")}


def test_no_value_belongs_to_two_attributes() -> None:
    values = [value for some in DESCRIPTORS.values() for value in some]
    assert len(values) == len(set(values)) == 8 + 2 + 5 + 6 + 2 + 5


def test_every_field_becomes_an_attribute() -> None:
    fields = ("plane", "ga", "structure", "laterality", "presentation", "findings")
    region = caption_attributes(
        caption("Thalami of ... ventriculomegaly; round", *fields), IMAGE, ["thalami"], PLANES
    )
    assert region.path == ("head", "transthalamic", "thalami")
    assert region.ga_days == 157
    assert region.values == {
        ("structures", "thalami"), ("laterality", "left"), ("laterality", "right"),
        ("presentation", "breech"), ("shape", "round"), ("diagnosis", "ventriculomegaly"),
    }  # fmt: skip


def test_whole_weeks_and_a_bare_region_are_taken_as_they_are_told() -> None:
    told = caption_attributes(
        caption("A 22-week head", "weeks", "region"), {**IMAGE, "plane": "other"}, [], PLANES
    )
    assert told == Attributes(("head",), frozenset(), 154)
    assert plane_path("other", PLANES) == plane_path(None, PLANES) == ()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("head", "transthalamic"), ("head", "transthalamic"), 1.0),
        (("head", "transthalamic"), ("head", "transventricular"), 0.5),
        (("head", "transthalamic"), ("heart", "lvot"), 0.0),
        (("head", "transthalamic", "thalami"), ("head", "transthalamic"), 0.8),
        (("head",), ("head", "transthalamic"), 2 / 3),
    ],
)
def test_places_are_alike_by_their_common_way_from_the_root(
    one: tuple[str, ...], other: tuple[str, ...], expected: float
) -> None:
    assert likeness(Attributes(one), Attributes(other)) == pytest.approx(expected)


def test_sets_are_alike_by_their_overlap() -> None:
    one = holding(("structures", "spine"), ("structures", "liver"))
    assert likeness(
        one, holding(("structures", "spine"), ("structures", "stomach"))
    ) == pytest.approx(1 / 3)
    assert likeness(holding(("laterality", "left")), holding(("laterality", "right"))) == 0.0


def test_ages_are_alike_linearly_up_to_six_weeks() -> None:
    assert likeness(Attributes(ga_days=140), Attributes(ga_days=161)) == pytest.approx(0.5)
    assert likeness(Attributes(ga_days=100), Attributes(ga_days=200)) == 0.0


def test_what_one_side_does_not_tell_does_not_count() -> None:
    path = ("head", "transthalamic")
    rich = Attributes(path, frozenset({("shape", "round"), ("presentation", "breech")}), 150)
    assert likeness(Attributes(path), rich) == 1.0
    # a plane of another region (0) and the same age (1), averaged over these two alone
    assert likeness(Attributes(("heart", "lvot"), ga_days=150), rich) == pytest.approx(0.5)


def test_without_attributes_only_equal_captions_are_alike() -> None:
    ids = torch.tensor([0, 1, 0])
    rows = said(Attributes(), Attributes(), Attributes())
    assert torch.equal(soft_labels(rows, rows, ids[:, None] == ids), (ids[:, None] == ids).float())


def test_equal_captions_count_as_one_whatever_they_tell() -> None:
    rows = said(Attributes(ga_days=100), Attributes(ga_days=142))
    labels = soft_labels(rows, rows, torch.tensor([[True, True], [False, True]]))
    assert labels.tolist() == [[1.0, 1.0], [0.0, 1.0]]


def test_labels_are_symmetric_and_between_zero_and_one() -> None:
    every = [
        Attributes(
            (plane.region, plane.id),
            frozenset(("structures", name) for name in plane.structures),
            100 + 5 * n,
        )
        for n, plane in enumerate(PLANES.planes)
    ]
    labels = soft_labels(said(*every), said(*every), torch.zeros(24, 24, dtype=torch.bool))
    assert torch.allclose(labels, labels.T)
    assert labels.min() >= 0
    assert labels.max() <= 1
    assert torch.allclose(labels.diagonal(), torch.ones(24))


def test_a_table_does_not_depend_on_the_order_of_captions() -> None:
    captions = [Attributes(("head", "transthalamic"), ga_days=days) for days in (150, 100)] + [
        holding(("shape", "oval"))
    ]
    one, other = AttributeTable(captions), AttributeTable(captions[::-1])
    assert torch.equal(one.rows.path, other.rows.path)
    assert torch.equal(one.of(captions).values, other.of(captions).values)


def test_numbers_are_equal_for_equal_texts_alone() -> None:
    found = numbers(["a femur", "a head", "a femur"])
    assert found[0] == found[2] != found[1]
