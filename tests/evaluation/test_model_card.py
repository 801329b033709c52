"""The card of a run shows what its files say, and nothing else."""

import json
from pathlib import Path

import pytest
from clip_files import TINY
from drawn_study import drawn_study
from quick import quick

from sono.curation.core.atomic import write_text
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.model_card import write_model_card
from sono.evaluation.selection import Target
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


def test_the_card_has_the_numbers_of_the_evaluation_and_what_the_study_states(
    trained: Workspace,
) -> None:
    first = write_model_card(trained)
    text = first.path.read_text(encoding="utf-8")
    assert first.path == trained.runs / "toy" / "README.md" and first.evaluations == ()
    assert "Not evaluated: run `sono eval --run toy`." in text
    assert "Was it tested on a center that it has not seen?" in first.not_measured
    assert "Who funded it?" in first.not_stated

    metrics = evaluate(trained, EvaluationOptions(target=Target("B"))).metrics
    write_text(trained.config_path, f'{SETTINGS}[card]\nfunding = "a grant | of two"\n')
    second = write_model_card(trained, "toy")
    text = second.path.read_text(encoding="utf-8")
    top1 = metrics["groups"][0]["modes"]["all_one"]["top1_macro"]
    limits = f"[{100 * top1['low']:.1f}, {100 * top1['high']:.1f}]"
    assert f"| [B](eval/B/report.html) | 20 | {100 * top1['point']:.1f} {limits} |" in text
    assert metrics["region_control"]["verdict"]["text"] in text
    assert "| femur | 6 |" in text and "| held-out centers | B |" in text
    assert "| Was it tested on a center that it has not seen? | B |" in text
    assert "| Who funded it? | a grant \\| of two |" in text
    assert "Who funded it?" not in second.not_stated


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
