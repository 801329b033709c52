"""The card of a run shows what its files say, and nothing else."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from clip_files import TINY
from drawn_study import drawn_study
from quick import quick
from safetensors.torch import load, save

from sono.annotation.release.card_config import CardConfig
from sono.curation.core.atomic import write_text
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.evaluation.checklist import answers, checklist
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.model_card import card_text, write_model_card
from sono.evaluation.partitions import machine_counts, partition_rows
from sono.evaluation.run_facts import run_facts
from sono.evaluation.selection import Target
from sono.templates.reports import guidelines
from sono.training.model import architectures
from sono.training.train import train

SETTINGS = '[evaluation]\nbootstrap_draws = 100\nmodes = ["all_one"]\n'


@pytest.fixture
def trained(tmp_path: Path) -> Workspace:
    architectures.SIZES["tiny"] = TINY
    study = drawn_study(tmp_path / "study")
    write_text(study.config_path, SETTINGS)
    train(study, quick(model="tiny", epochs=1, image_size=32, hold_out=("B",)), "toy")
    return study


def check_other_weights(study: Workspace, card: Path) -> None:
    """Weights replaced since, as by `sono train --resume`, and what a kill has left."""
    run = card.parent
    weights = run / "best" / "model.safetensors"
    content = weights.read_bytes()
    (run / "eval/B").rename(run / "eval/M%C3%BC")
    weights.write_bytes(save(load(content) | {"towers.logit": torch.zeros(1)}))
    left = run / "eval/.tmp-B-new"
    left.mkdir()
    (left / "metrics.json").write_text("{}")
    changed = write_model_card(study, "toy")
    text = changed.path.read_text(encoding="utf-8")
    assert changed.evaluations == ("M%C3%BC",) and "SCORED WITH EARLIER WEIGHTS" in text
    assert "- M%C3%BC: these are the scores of earlier weights of the run; run `sono ev" in text
    assert "[M%C3%BC](eval/M%25C3%25BC/report.html)" in text
    weights.write_bytes(content)
    (run / "eval/M%C3%BC").rename(run / "eval/B")
    assert "EARLIER" not in write_model_card(study, "toy").path.read_text()


def test_the_card_has_the_numbers_of_the_evaluation_and_what_the_study_states(
    trained: Workspace,
) -> None:
    first = write_model_card(trained)
    text = first.path.read_text(encoding="utf-8")
    assert first.path == trained.runs / "toy" / "README.md" and first.evaluations == ()
    assert "Not evaluated: run `sono eval --run toy`." in text
    assert "Was it tested on a center that it has not seen?" in first.not_measured
    assert "Who funded it?" in first.not_stated
    assert first.items_filled < 0.8 * first.items_knowable

    metrics = evaluate(trained, EvaluationOptions(target=Target("B"))).metrics
    facts = run_facts(first.path.parent, trained.accepted_images())
    write_text(trained.config_path, f'{SETTINGS}[card]\nfunding = "a grant | of two"\n')
    second = write_model_card(trained, "toy")
    text = second.path.read_text(encoding="utf-8")
    top1 = metrics["groups"][0]["modes"]["all_one"]["top1_macro"]
    limits = f"[{100 * top1['low']:.1f}, {100 * top1['high']:.1f}]"
    assert f"| [B](eval/B/report.html) | 20 | 5 | {100 * top1['point']:.1f} {limits} |" in text
    # the score of the checkpoint is a mean of two accuracies, not Top-1 of planes alone
    assert "of 1: the highest Top-1 macro on validation frames, the mean of planes and of" in text
    assert "| started from | random weights |" in text
    assert metrics["region_control"]["verdict"]["text"] in text
    assert "| center B | 20 | 5 | unknown | 2 | unknown | unknown | unknown |" in text
    # planes have their names, as in the other reports
    eyes = replace(facts, info=replace(facts.info, planes_seen={"eye": 2}))
    asked = list(answers(eyes, CardConfig()))
    assert "| femur | 6 |" in text and "| orbits | 2 |" in card_text(eyes, asked, PlaneTable())
    assert "| held-out centers | B |" in text
    assert "| Was it tested on a center that it has not seen? | B |" in text
    assert "| Who funded it? | a grant \\| of two |" in text
    assert "Who funded it?" not in second.not_stated
    assert second.items_filled >= 0.8 * second.items_knowable > 50
    assert f"{second.items_filled} of {second.items_knowable} items that a tool can know" in text
    # funding is answered in all three lists, by people; the test split was not evaluated
    assert text.count("| funding | answered | a grant \\| of two | `[card]` of sono.toml |") == 3
    assert "| 32 | test on internal data | open | not measured |" in text
    assert "| What are they? | in the table of results above, and for each plane | [B](ev" in text
    check_other_weights(trained, first.path)
    # without validation frames no temperature is fitted, and the card shows the error before
    measured = first.path.parent / "eval/B/metrics.json"
    old = json.loads(measured.read_text())
    old["probabilities"]["measures"].pop("fitted", None)
    measured.write_text(json.dumps(old))
    assert "calibration error" in write_model_card(trained, "toy").path.read_text()


def test_the_partitions_show_ages_and_mothers() -> None:
    images = pd.DataFrame(
        {
            "split": ["train", "train", "test", "test", None],
            "center": ["A", "A", "A", "B", "A"],
            "patient_id": ["p1", "p1", "p2", "p3", None],
            "study_id": [None] * 5,
            "source_id": list("abcde"),
            "ga_days": pd.array([70, 150, None, 210, None], "Int64"),
            "plane": ["femur", "humerus", "femur", "femur", None],
            "machine": ["M1", "M2", "M1", "M1", None],
            "bmi_band": ["below 25", "30 and above", None, None, None],
            "parity": ["parous", "parous", None, None, None],
        }
    )
    assert partition_rows(images, ["B"]) == [
        ("train", "2", "1", "15 (10 to 21); of 2", "2", "2", "50 % of 2", "100 % of 2"),
        ("test", "1", "1", "unknown", "1", "1", "unknown", "unknown"),
        ("center B", "1", "1", "30 (30 to 30); of 1", "1", "1", "unknown", "unknown"),
        ("no split", "1", "1", "unknown", "0", "unknown", "unknown", "unknown"),
    ]
    assert machine_counts(images) == "M1 (3), M2 (1), unknown (1)"


def test_every_item_of_the_guidelines_is_there_once_and_leads_to_a_question(
    trained: Workspace,
) -> None:
    numbers = {name: list(items) for name, items in guidelines().items()}
    main = {name: list(dict.fromkeys(re.sub("[a-z]", "", one) for one in each))
            for name, each in numbers.items()}  # fmt: skip
    assert main == {
        name: [str(number) for number in range(1, count + 1)]
        for name, count in {"CLAIM 2024": 44, "TRIPOD+AI": 27, "STARD-AI": 40}.items()
    }
    asked = list(answers(run_facts(trained.runs / "toy", trained.accepted_images()), CardConfig()))
    keys = [one.key for one in asked]
    assert len(set(keys)) == len(keys)
    items = checklist(asked)
    assert [item.number for item in items] == [one for each in numbers.values() for one in each]
    # what a tool measures is open before an evaluation, and what people state is theirs
    states = {(item.guideline, item.number): item.state for item in items}
    assert states["CLAIM 2024", "28"] == "open" and states["CLAIM 2024", "44"] == "for people"
    assert states["TRIPOD+AI", "18d"] == "unknown to the tool"
    assert states["STARD-AI", "26a"] == "not applicable" and states["CLAIM 2024", "7"] == "answered"


def test_what_is_no_card_or_is_damaged_is_refused(trained: Workspace) -> None:
    card = trained.runs / "toy" / "README.md"
    card.write_text("my notes")
    with pytest.raises(SonoError, match="is not a card of sono; move it"):
        write_model_card(trained)
    assert card.read_text() == "my notes"
    card.unlink()
    folder = trained.runs / "toy" / "eval" / "B"
    folder.mkdir(parents=True)
    for content in ("{", "[]", json.dumps({"first_line": "x"})):
        (folder / "metrics.json").write_text(content)
        with pytest.raises(SonoError, match=r"eval/B.*run `sono eval` again"):
            write_model_card(trained)
    whole = {"candidates": [], "first_line": "x", "groups": [], "region_control": {}}
    whole |= {"probabilities": {}, "verdict": "x", "strata": None}
    (folder / "metrics.json").write_text(json.dumps(whole))
    with pytest.raises(SonoError, match="other fields than sono writes"):
        write_model_card(trained)
    (folder / "metrics.json").unlink()
    record = trained.runs / "toy" / "run.json"
    record.write_text(record.read_text().replace('"A"', '"<script>x</script>"'))
    text = write_model_card(trained).path.read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script>" in text
    with pytest.raises(SonoError, match="is a checkpoint; give its run, 'toy'"):
        write_model_card(trained, "toy/end")
