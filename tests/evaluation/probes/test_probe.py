"""The stage `probe` on a study whose answers are known, and its errors."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_encoders import small_vit

from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, MASKS
from sono.curation.core.workspace import Workspace
from sono.evaluation.probes import features
from sono.evaluation.probes.parts import Protocol
from sono.evaluation.probes.probe import ProbeResult, probe
from sono.evaluation.probes.study import Probe, ProbeOptions, open_probe
from sono.training.model.checkpoints import read_run, write_run


def run(workspace: Workspace, target: str = "plane", **options: object) -> ProbeResult:
    return probe(workspace, ProbeOptions(target, **options))


def change(workspace: Workspace, rows: object = slice(None), **columns: object) -> None:
    images = workspace.images()
    for name, value in columns.items():
        images.loc[rows, name] = value
    workspace.write(IMAGES, images)


def test_planes_are_read_the_controls_are_worse_and_all_of_it_is_written(probed: Workspace) -> None:
    result = run(probed)
    scores = result.metrics["scores"]
    assert scores["linear"]["top1_macro"]["point"] == 1
    assert result.metrics["shuffled_labels"]["mean"] == pytest.approx(1 / 3, abs=0.15)
    assert set(scores) == {"linear", "nearest_neighbors", "zero_shot", "untrained_encoder"}
    assert result.metrics["images"] == 24 and result.metrics["clusters"] == 8
    assert [row["images"] for row in result.metrics["classes"]] == [8, 8, 8]
    assert [row["patients"] for row in result.metrics["few_shot"]] == [2, 4, 8, 16]
    assert "began with a published model" in result.metrics["notes"][0]
    folder = probed.runs / "clip" / "probe" / "plane" / "test"
    assert result.folder == folder
    page = (folder / "report.html").read_text()
    assert "data:image/svg+xml" in page and "shuffled labels" in page
    assert "Top-1 macro</th>" in page and "blend: the same with the text" in page
    assert (folder / "few_patients.svg").read_text().startswith("<?xml")
    table = pd.read_csv(folder / "tables" / "scores.csv").set_index(["method", "metric"])
    assert table.loc[("linear", "top1_macro"), "percent"] == 100
    assert table.loc[("linear", "top1_macro"), "percent_low"] < 100
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["sentences"] == list(result.found.sentences)


def test_features_are_computed_once(probed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    encode = features.encode_frames

    def counted(*given: object) -> object:
        asked.append(len(given[1]))
        return encode(*given)

    monkeypatch.setattr(features, "encode_frames", counted)

    def look(**options: object) -> Probe:
        found = open_probe(probed, ProbeOptions(**options))
        assert len(found.used) == len(found.untrained) == len(found.frames)
        return found

    first = look()
    assert asked == [90, 90]  # the encoder and its untrained twin
    again = look(protocol=Protocol(folds=3))
    assert (again.used == first.used).all() and not (again.untrained == first.used).any()
    assert asked == [90, 90]
    masked = look(mask="own")
    assert asked == [90, 90, 60, 60]
    assert masked.used.shape[1] == first.used.shape[1] + first.features.embedded.shape[1]
    store = probed.runs / "clip" / "probe" / "features.safetensors"
    store.write_bytes(store.read_bytes()[:-9])
    look()
    assert asked == [90, 90, 60, 60, 90]


def test_features_do_not_depend_on_the_batch_and_are_pooled_before_the_projection(
    probed: Workspace,
) -> None:
    from sono.training.model.checkpoints import load_model

    model, _ = load_model(probed.runs / "clip")
    frames = probed.accepted_images()
    files = [probed.root / str(file) for file in frames["file"]][:10]
    one, all_ = (features.encode_frames(model, files, [None] * 10, size) for size in (3, 10))
    assert np.allclose(one.pooled, all_.pooled, atol=1e-5)
    assert one.pooled.shape == (10, 64) and one.embedded.shape == (10, 16)
    projected = one.pooled @ model.towers.visual.proj.detach().numpy()
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    assert np.allclose(projected, one.embedded, atol=1e-4)


def test_tested_patients_of_the_training_are_stated_first(probed: Workspace) -> None:
    info = read_run(probed.runs / "clip")
    write_run(probed.runs / "clip", replace(info, patients_seen=frozenset({"p29"})))
    line = open_probe(probed, ProbeOptions()).first_line
    assert "3 OF THE TESTED FRAMES WERE IN THE TRAINING OF THE ENCODER" in line
    line = open_probe(probed, ProbeOptions(protocol=Protocol("A"))).first_line
    assert line.endswith("center A, fitted on others: 45 frames of 15 patients tested")


def test_an_encoder_by_path_has_no_zero_shot_and_says_what_it_saw(
    probed: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "openus_vit.pth"
    torch.save(small_vit().state_dict(), path)
    result = run(probed, encoder=str(path))
    assert "zero_shot" not in result.metrics["scores"]
    assert "SEEN FETAL_PLANES_DB" in result.metrics["notes"][0]
    assert result.folder == probed.runs / f"encoder {path.name}" / "probe" / "plane" / "test"
    assert not (result.folder.parents[2] / "run.json").exists()


def test_a_center_is_read_on_balanced_draws(probed: Workspace) -> None:
    result = run(probed, "center")
    reading = result.metrics["reading"]["features"]
    assert reading["chance"] == 0.5 and reading["permutations"] >= 40
    # equal brightness in both centers: there is nothing to read
    assert reading["p_value"] > 0.05 and "is not shown to be read" in result.found.sentences[0]
    assert result.metrics["robustness"]["features"]["index"]["point"] > 0.9


def test_small_sites_are_left_out_and_counted(probed: Workspace) -> None:
    change(probed, slice(0, 2), center="C")
    change(probed, slice(84, 86), center="C")
    result = run(probed, "center")
    assert result.metrics["excluded"] == {"of center 'C' (fewer than 5 patients)": 6}
    assert "left out: 6 of center 'C' (fewer than 5 patients)" in result.metrics["notes"]


@pytest.mark.parametrize(
    ("options", "columns", "words"),
    [
        ({"target": "plan"}, {}, r"'plan' cannot be probed; .* biometry; did you mean 'plane'\?"),
        ({"mask": "all"}, {}, "--mask all: choose none or own"),
        ({"run": "clip", "encoder": "x"}, {}, "--run and --encoder exclude each other"),
        ({"protocol": Protocol("A", 2)}, {}, "--center and --folds exclude each other"),
        ({"target": "center", "protocol": Protocol("A")}, {}, "so it cannot be read"),
        ({"encoder": "gone.pth"}, {}, "start 'gone.pth': no such file"),
        ({"target": "machine"}, {}, "needs frames of two classes .* and has 'one'"),
        ({"target": "laterality"}, {}, r"none of 90 .* laterality \(90 without laterality\)"),
        ({"target": "ga_days"}, {"ga_days": None}, "90 without ga_days"),
        ({"protocol": Protocol("Z")}, {}, "unknown center 'Z'"),
        (
            {},
            {"split": "train"},
            "split test: no frame to probe is in 'val'; give --folds 5 or --center B, or run "
            "`sono split`",
        ),
        ({}, {"plane": "femur"}, "needs frames of two classes .* and has 'femur'"),
    ],
)
def test_bad_input_is_one_clear_line(
    probed: Workspace, options: dict[str, object], columns: dict[str, object], words: str
) -> None:
    change(probed, **columns)
    with pytest.raises(SonoError, match=words) as caught:
        open_probe(probed, ProbeOptions(**options))
    assert "\n" not in str(caught.value)


def test_a_class_without_training_frames_is_left_out_and_counted(probed: Workspace) -> None:
    images = probed.images()
    legs = images["plane"].eq("leg") & images["split"].ne("test")
    images.loc[legs, "plane"] = None
    probed.write(IMAGES, images)
    assert open_probe(probed, ProbeOptions()).excluded == {
        "without a plane": 22,
        "of plane 'leg' (none of them is fitted on)": 8,
    }


def test_no_masks_is_an_error(probed: Workspace) -> None:
    probed.write(MASKS, probed.masks().iloc[:0])
    with pytest.raises(SonoError, match="90 without an accepted mask"):
        open_probe(probed, ProbeOptions("masks"))


def test_features_that_are_not_finite_are_an_error(
    probed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> np.ndarray:
        return np.full((len(given[1]), 16), np.nan, np.float32)

    monkeypatch.setattr(features, "masked_features", broken)
    monkeypatch.setattr(features, "_hook", lambda *given: None)
    with pytest.raises(SonoError, match="not finite"):
        assert open_probe(probed, ProbeOptions()).used is None


def test_the_age_is_read_better_than_the_median_says(probed: Workspace) -> None:
    errors = run(probed, "ga_days").metrics["errors"]
    assert errors["ridge"]["all"]["mae"]["point"] < 4  # four days are of the patient alone
    assert errors["median"]["all"]["mae"]["point"] == pytest.approx(13, abs=2)
    assert errors["shuffled_ages"]["all"]["mae"]["point"] > 10
    assert set(errors["ridge"]) == {"all", "14 to 27 weeks"}
    row = errors["ridge"]["all"]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * row["sd"])


def test_masks_are_read_from_frozen_maps(probed: Workspace) -> None:
    result = run(probed, "masks")
    overall = result.metrics["overall"]["linear"]
    assert result.metrics["structures"] == ["femur", "left orbit"]
    assert overall["images"] == 16 and overall["with_spacing"] == 16
    assert overall["dice"]["point"] > 0.8 and overall["hd95_mm"]["point"] < 2
    assert overall["absent"] == overall["both_empty"] == 16
    assert re.search("Dice [0-9.]+", result.found.sentences[0])
