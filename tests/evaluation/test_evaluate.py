"""The stage from end to end, on a study where each answer is known."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from studies import fill_vault

from sono.curation.core.atomic import write_text
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import CAPTIONS, IMAGES, from_rows
from sono.curation.core.workspace import Workspace
from sono.evaluation import evaluate as evaluation
from sono.evaluation import zero_shot
from sono.evaluation.calibrate import load_calibration
from sono.evaluation.config import EvaluationConfig
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.selection import Target
from sono.templates.loader import load_templates
from sono.training.data.frame_cache import kept_frames, packed_frames
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import chosen_checkpoint, find_run
from sono.training.model.mask_clip import MaskClip

QUICK = "[evaluation]\nbootstrap_draws = 100\nbatch_size = 5\n"


@pytest.fixture
def quick(study: Workspace) -> Workspace:
    write_text(study.config_path, QUICK)
    return study


def test_a_new_center_gives_the_accuracy_worked_out_by_hand(quick: Workspace) -> None:
    found = evaluate(quick, EvaluationOptions(target=Target("new")))
    assert found.title == "Center new (not seen in training): 12 frames of 6 patients"
    whole = found.metrics["groups"][0]["modes"]["all_one"]
    # femur 7 of 8; orbits 3 of 4, the fourth looks like "leg", which is not present: a tie, so
    # wrong
    assert whole["top1_macro"]["point"] == pytest.approx((7 / 8 + 3 / 4) / 2)
    assert whole["top1_micro"]["point"] == pytest.approx(10 / 12, abs=1e-6)
    assert found.metrics["excluded"] == {"of no standard plane": 1}
    with stderr_console.capture() as shown:
        stderr_console.print(found)
    assert "- Frames excluded: 1 of no standard plane." in shown.get()
    assert found.metrics["groups"][0]["baselines"]["majority_class"]["top1_micro"] == pytest.approx(
        8 / 12
    )


def test_the_same_images_stand_side_by_side_in_every_mode(quick: Workspace) -> None:
    metrics = evaluate(quick, EvaluationOptions()).as_dict()
    whole, masked = metrics["groups"]
    assert set(whole["modes"]) == {"all_one", "proposed", "proposed_shuffled", "empty"}
    assert set(masked["modes"]) == {*whole["modes"], "annotated", "box", "shuffled"}
    assert (whole["frames"], masked["frames"], metrics["proposals_found"]) == (12, 6, 6)
    assert whole["modes"]["empty"]["top1_macro"]["point"] == 0
    assert not metrics["verdict"]["masks_help"]
    assert any("oracle" in note for note in metrics["notes"])


def test_one_oracle_mode_alone_stands_beside_all_one(quick: Workspace) -> None:
    groups = evaluate(quick, EvaluationOptions(modes=("box",))).metrics["groups"]
    assert [set(group["modes"]) for group in groups] == [{"all_one"}, {"all_one", "box"}]


def test_the_predictions_hold_a_row_a_frame_and_mode(quick: Workspace) -> None:
    found = evaluate(quick, EvaluationOptions(modes=("annotated",)))
    rows = pd.read_parquet(found.folder / "predictions.parquet")
    assert rows.groupby("mode").size().to_dict() == {"all_one": 12, "annotated": 6}
    whole = rows[rows["mode"] == "all_one"]
    assert (whole["predicted"] == whole["plane"]).sum() == 10
    assert whole["predicted"].isna().sum() == 1
    assert sorted(whole["rank"])[-2:] == [2, 2]
    assert len(rows["scores"].iloc[0]) == 24


def test_the_report_is_one_file_that_begins_with_center_and_state(quick: Workspace) -> None:
    found = evaluate(quick, EvaluationOptions(target=Target("new")))
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    assert f"<h1>{found.title}</h1>" in text
    assert found.folder == quick.runs / "toy" / "eval" / "new"
    assert "not a medical device" in text and "oracle" in text and "d1" in text
    # the frames, one of them as a hard one, too
    assert len(re.findall(r'src="data:image/png', text)) == 12 + 1
    # the map of the features, the modes, two confusions, and probabilities
    assert text.count('src="data:image/svg+xml') == 1 + 4
    assert "None of the frames has a caption" in text
    places = re.findall(r'(?:src|href)="(?!data:)([^"]*)', text)
    assert places and all((found.folder / place).is_file() for place in places)


def test_a_seen_center_is_refused_and_named_when_insisted(quick: Workspace) -> None:
    with pytest.raises(SonoError, match="was in training"):
        evaluate(quick, EvaluationOptions(target=Target("old")))
    assert not (quick.runs / "toy" / "eval").exists()
    found = evaluate(quick, EvaluationOptions(target=Target("old", allow_seen=True)))
    assert "SEEN IN TRAINING" in found.title
    assert (
        "SEEN IN TRAINING"
        in (found.folder / "report.html").read_text(encoding="utf-8").split("</h1>")[0]
    )


@pytest.mark.slow
def test_two_runs_write_the_same_bytes(quick: Workspace) -> None:
    folder = evaluate(quick, EvaluationOptions()).folder

    def contents() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    first = contents()
    evaluate(quick, EvaluationOptions())
    assert contents() == first
    assert {file.name for file in first if file.parent == folder} == {
        "report.html", "metrics.json", "predictions.parquet", "regions.parquet",
    }  # fmt: skip


def test_captions_of_the_run_give_alignment_and_retrieval(quick: Workspace) -> None:
    template = load_templates("standard").id
    names = {"femur": "femur", "eye": "orbits"}
    rows = [
        {
            "image_id": row.image_id,
            "level": "global",
            "text": f"A view of the {names[row.plane]}.",
            "template": template,
        }
        | {"tier": "label", "tokens": 9}
        for row in quick.accepted_images().itertuples()
        if row.plane in names
    ]
    quick.write(CAPTIONS, from_rows(CAPTIONS, rows))
    rows += [
        {
            "image_id": row.image_id,
            "mask_id": row.mask_id,
            "level": "region",
            "text": "The femur.",
            "template": template,
            "tier": "label",
            "tokens": 3,
        }
        for row in quick.masks().itertuples()
    ]
    quick.write(CAPTIONS, from_rows(CAPTIONS, rows))
    found = evaluate(quick, EvaluationOptions(modes=()))
    metrics = found.metrics
    retrieval = metrics["captions"]["retrieval"]
    assert retrieval["image_to_text"]["at_1"]["point"] == pytest.approx(10 / 12, abs=1e-6)
    assert retrieval["image_to_text"]["at_1"]["low"] < 10 / 12
    assert retrieval["image_to_text_exchanged"]["at_1"]["point"] < 10 / 12
    assert retrieval["region_to_text"]["masks"] == 6
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    assert all(row.replace("_", " ") in text for row in retrieval)
    assert metrics["captions"]["distinct_captions"] == 2
    assert metrics["captions"]["paired"] == pytest.approx(10 / 12, abs=1e-6)
    # the orbits in the femur
    assert metrics["captions"]["unpaired"] == pytest.approx(4 / 64, abs=1e-6)


def test_metrics_are_plain_json_without_nan(quick: Workspace) -> None:
    images = quick.images()
    images["patient_id"] = "one"
    quick.write(IMAGES, images)
    fill_vault(quick)
    found = evaluate(quick, EvaluationOptions(target=Target(allow_seen=True)))
    content = json.loads((found.folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert content["groups"][0]["modes"]["all_one"]["top1_macro"]["low"] is None
    assert next(iter(found.tables["top1_macro"].cells)).value.point == 0.8125
    assert "no interval" in found.verdict


def test_a_run_is_found_by_name_and_the_newest_by_default(study: Workspace, tmp_path: Path) -> None:
    (study.runs / "later").mkdir()
    (study.runs / "later" / "run.json").write_text("{}")
    (study.runs / "crashed").mkdir()
    assert find_run(study, None).name == "later"
    assert find_run(study, "toy") == study.runs / "toy"
    (study.root / "elsewhere").mkdir()
    (study.root / "elsewhere" / "run.json").write_text("{}")
    (study.runs / "link").symlink_to(study.root / "elsewhere")
    assert find_run(study, "link") == study.runs / "link"
    for given in ("runs/toy", str(study.runs / "toy")):
        assert find_run(study, given) == study.runs / "toy"
    assert find_run(study, "runs/link/end") == study.runs / "link" / "end"
    for name in ("tyo", "crashed", "../..", "toy/../../.."):
        with pytest.raises(SonoError, match="no run"):
            find_run(study, name)


def test_a_checkpoint_that_is_named_has_a_report_of_its_own(quick: Workspace) -> None:
    (quick.runs / "toy" / "end" / "model.json").write_text("{}")
    for name, folder in (("toy", "new"), ("toy/end", "new (end)")):
        found = evaluate(quick, EvaluationOptions(name, Target("new"), modes=("all_one",)))
        assert (found.folder.name, found.metrics["checkpoint"]) == (folder, "end")


def test_a_study_without_run_says_how_to_train(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="train one with `sono train`"):
        find_run(Workspace.create(tmp_path / "w"), None)


def test_modes_are_ordered_and_always_hold_all_one() -> None:
    assert EvaluationConfig(modes=("empty", "proposed")).modes == ("all_one", "proposed", "empty")
    with pytest.raises(ValidationError, match="did you mean 'proposed'"):
        EvaluationConfig(modes=("propsed",))


@pytest.mark.slow
def test_the_packed_store_gives_the_same_numbers_without_reading_frames(
    quick: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, info = (
        MaskClip(ModelConfig(name="nano", image_size=48)).eval(),
        evaluation.load_model(quick.runs)[1],
    )
    monkeypatch.setattr(evaluation, "load_model", lambda folder: (model, info))
    encoded: list[dict[str, NDArray[np.float32]]] = []
    encode = zero_shot.mode_features

    def noted(*given: Any) -> dict[str, NDArray[np.float32]]:
        encoded.append(encode(*given))
        return encoded[-1]

    monkeypatch.setattr(evaluation, "mode_features", noted)
    files = quick.accepted_images()["file"].tolist()

    def predictions() -> bytes:
        return (evaluate(quick, EvaluationOptions()).folder / "predictions.parquet").read_bytes()

    from_frames = predictions()
    assert kept_frames(quick, files, 48) is None
    assert not (quick.root / "packed" / "48").exists()  # an evaluation builds none
    packed_frames(quick, files, 48)
    with monkeypatch.context() as patch:
        patch.setattr(zero_shot, "read_stored", lambda file: pytest.fail("a frame was read"))
        assert predictions() == from_frames
    assert len(encoded[0]) == 7
    for mode, features in encoded[0].items():
        assert np.array_equal(features, encoded[1][mode], equal_nan=True), mode
    store = quick.root / "packed" / "48" / "frames.safetensors"
    store.write_bytes(store.read_bytes()[:-9] + bytes(9))
    assert predictions() == from_frames  # a damaged store is left alone


def test_a_run_that_has_not_ended_is_told(study: Workspace) -> None:
    assert not any(
        "not ended" in note
        for note in evaluate(study, EvaluationOptions(target=Target("new"))).notes
    )
    (study.runs / "toy" / "end").rmdir()
    assert (
        "not ended; finish it with `sono train --name toy --resume`"
        in evaluate(study, EvaluationOptions(target=Target("new"))).notes[0]
    )


def test_a_misspelled_center_fails_before_the_model_is_read(
    quick: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "load_model", None)
    with pytest.raises(SonoError, match="unknown center 'neww'; did you mean 'new'"):
        evaluate(quick, EvaluationOptions(target=Target("neww")))


def test_the_temperature_is_fitted_on_validation_frames_and_kept_with_the_weights(
    quick: Workspace,
    new_frame: Callable[..., dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every answer on the four validation frames but one is right at full confidence."""
    shown = [("femur", "femur"), ("femur", "femur"), ("eye", "eye"), ("eye", "femur")]
    rows = [
        new_frame(
            quick.root, plane, seen, 60 + number, center="old", patient_id=f"v{number}", split="val"
        )
        for number, (plane, seen) in enumerate(shown)
    ]
    quick.write(IMAGES, pd.concat([quick.images(), from_rows(IMAGES, rows)], ignore_index=True))
    fill_vault(quick)
    evaluate(quick, EvaluationOptions(modes=("all_one",)))
    found = load_calibration(chosen_checkpoint(quick.runs / "toy"))
    assert found is not None and (found.frames, found.patients, found.planes) == (4, 4, 24)
    # a softmax of one cosine of 1 and 23 of 0 gives 3 / 4 where exp(scale / T) = 3 * 23
    assert found.temperature == pytest.approx(np.exp(2.3) / np.log(3 * 23), rel=1e-3)
    # a training that still runs has replaced the weights meanwhile: theirs is another one
    (quick.runs / "toy" / "end" / "calibration.json").unlink(missing_ok=True)
    (quick.runs / "toy" / "calibration.json").unlink(missing_ok=True)
    weights = iter(("then", "now"))
    monkeypatch.setattr(evaluation, "weights_id", lambda checkpoint: next(weights))
    evaluate(quick, EvaluationOptions(modes=("all_one",)))
    assert load_calibration(chosen_checkpoint(quick.runs / "toy")) is None


def test_frames_without_a_plane_measure_refusal_and_seen_ones_do_not(
    quick: Workspace, new_frame: Callable[..., dict[str, object]]
) -> None:
    """The only other frame is of a patient with known frames, and looks like a leg: sure."""
    found = evaluate(quick, EvaluationOptions(modes=("all_one",)))
    refusal = found.metrics["probabilities"]["refusal"]
    assert (refusal["frames"], refusal["clusters"]) == (1, 1)
    assert refusal["cosine"]["auroc"]["point"] == 0.5
    assert found.metrics["probabilities"]["risk"]["100"] == pytest.approx(2 / 12, abs=1e-6)
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    assert "1 frames of 1 patients show no standard plane" in text and "Hardest frames" in text
    seen = new_frame(quick.root, "other", "leg", 70, center="new", patient_id="q1", split="test")
    quick.write(IMAGES, pd.concat([quick.images(), from_rows(IMAGES, [seen])], ignore_index=True))
    fill_vault(quick)
    again = evaluate(quick, EvaluationOptions(modes=("all_one",)))
    assert again.metrics["probabilities"]["refusal"]["frames"] == 1
