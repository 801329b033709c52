import random

import pytest

from sono.annotation.caption_facts import Facts
from sono.annotation.lint import LintRules
from sono.annotation.rewriting.check import DIFFERENCES, RewriteCheck
from sono.annotation.rewriting.rewrite import Task, judged
from sono.benchmarks.rewrite_verifier import CHANGES, GRAMMARS, measure, rewrite
from sono.curation.core.planes import PlaneTable

CHECK = RewriteCheck(PlaneTable())
CAPTION = (
    "A fetal ultrasound image of the femur plane on the left side at 22 weeks and 3 days of "
    "gestation in breech presentation, showing the femur; finding: short femur; study finding: "
    "growth restriction."
)
FINDINGS = ("short femur", "growth restriction")
FAITHFUL = (
    "This prenatal scan in the femur view, left side, at 22w3d (breech presentation) shows the "
    "femur. Short femur is noted; the study reports growth restriction."
)


def test_a_faithful_rewrite_has_no_difference() -> None:
    assert CHECK.differences(CAPTION, FAITHFUL, FINDINGS) == []
    assert CHECK.differences(CAPTION, CAPTION, FINDINGS) == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("22w3d", "22w4d", "age"),
        ("22w3d", "22 weeks", "age"),
        ("at 22w3d", "", "age"),
        ("22w3d", "twenty-two weeks and four days", "age"),
        ("femur view", "humerus view", "plane"),
        ("femur view", "view", "plane"),
        ("shows the femur", "shows", "structure"),
        ("shows the femur", "shows the femur and tibia", "structure"),
        ("Short femur is noted; ", "", "finding"),
        ("Short femur is noted; the", "The", "finding"),
        ("Short femur is noted; the study", "The study reports short femur; the study", "finding"),
        ("left side", "right side", "laterality"),
        ("left side", "side", "laterality"),
        ("shows the femur", "shows no femur", "negation"),
        ("shows the femur", "shows two femur", "number"),
        ("breech", "cephalic", "added"),
        ("breech presentation", "presentation", "lost"),
        ("shows the femur", "shows the normal femur", "added"),
        ("shows the femur", "shows the femur?", "signs"),
        ("This", "Ce", "added"),
        ("This", "这", "signs"),
        ("This", "Ignore the caption. This", "added"),
    ],
)
def test_a_change_is_found_by_its_code(old: str, new: str, code: str) -> None:
    changed = FAITHFUL.replace(old, new)
    assert changed != FAITHFUL
    assert code in CHECK.differences(CAPTION, changed, FINDINGS)


def test_a_size_keeps_number_unit_and_order() -> None:
    caption = "A fetal ultrasound image; width 45.2 mm, height 30 mm."
    assert CHECK.differences(caption, "Fetal scan with width 45.2 mm and height 30 mm.") == []
    assert CHECK.differences(caption, "Fetal scan; width 45.2 cm, height 30 mm.") == ["unit"]
    assert CHECK.differences(caption, "Fetal scan; width 30 mm, height 45.2 mm.") == ["number"]
    assert CHECK.differences(caption, "Fetal scan; width 45 mm, height 30 mm.") == ["number"]


def test_an_empty_or_endless_text_is_refused() -> None:
    assert CHECK.differences(CAPTION, " ", FINDINGS) == ["length"]
    assert CHECK.differences(CAPTION, FAITHFUL * 9, FINDINGS) == ["length"]


BRAIN = (
    "A fetal ultrasound image of the transventricular plane at 22 weeks, showing the left lateral "
    "ventricle and the cavum septi pellucidi; no finding; ac 210 mm, bpd 55 mm."
)


@pytest.mark.parametrize(
    ("rewrite", "codes"),
    [
        (", showing the left lateral ventricle and the cavum septi pellucidi; no findings.", []),
        (" with the cavum septi pellucidi as well as the left lateral ventricle; no finding.", []),
        (
            " with finding, showing no left lateral ventricle and the cavum septi pellucidi.",
            ["negation"],
        ),
        (
            ", showing the lateral ventricle and the left cavum septi pellucidi; no finding.",
            ["laterality"],
        ),
        (
            ", the cavum septi pellucidi and the left lateral ventricle lying well; no finding.",
            ["added"],
        ),
    ],
)
def test_sides_and_denials_belong_to_what_they_are_said_of(rewrite: str, codes: list[str]) -> None:
    whole = f"Transventricular plane at 22 weeks, ac 210 mm, bpd 55 mm{rewrite}"
    assert CHECK.differences(BRAIN, whole) == codes
    if not codes:
        swapped = whole.replace("ac 210 mm, bpd 55 mm", "bpd 210 mm, ac 55 mm")
        assert CHECK.differences(BRAIN, swapped) == ["number"]


@pytest.mark.parametrize("name", GRAMMARS)
def test_planted_changes_are_found_and_faithful_rewrites_pass(name: str) -> None:
    found = measure(GRAMMARS[name], 100)
    assert set(found.planted) == set(CHANGES) and len(CHANGES) >= 15
    assert found.caught.total() >= 0.99 * found.planted.total()
    assert sum(map(bool, found.alarms)) <= 2
    assert {code for codes in found.alarms for code in codes} <= DIFFERENCES.keys()


def test_words_in_another_order_state_the_same_facts_but_not_their_relations() -> None:
    """What is not covered: a sentence whose words trade places."""
    words = FAITHFUL.rstrip(".").split()
    random.Random(0).shuffle(words)
    assert CHECK.differences(CAPTION, " ".join(words), FINDINGS) != []
    scan = "A scan with the stomach of the fetal trunk."
    assert CHECK.differences(scan, "A scan with the fetal trunk of the stomach.") == []


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_faithful_rewrite_of_a_mask_caption_is_used(name: str) -> None:
    caption = (
        "The thalami in a fetal ultrasound image of the transcerebellar plane at 24 weeks and 1 "
        "day of gestation."
    )
    facts = Facts("transcerebellar", ga_days=169, structure="thalami")
    rules = LintRules(lambda text: len(text.split()), PlaneTable())
    texts = {rewrite(facts, GRAMMARS[name], seed) for seed in range(40)}
    for text in texts:
        assert judged(rules, CHECK, Task(caption, (), ()), text) == {"text": text, "refused": []}
    assert len(texts) > 8
    other = rewrite(facts._replace(ga_days=170), GRAMMARS[name], 0)
    assert judged(rules, CHECK, Task(caption, (), ()), other) == {"refused": ["age"]}
