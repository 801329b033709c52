"""The exported folder names planes without sono, as the model does."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clip_files import random_clip, write_openai

import sono
from sono.curation.core.atomic import write_bytes, write_text
from sono.curation.core.errors import PrivacyError
from sono.curation.core.planes import PLANES
from sono.curation.core.tables import write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.templates.loader import load_templates
from sono.training.interop import model_runs
from sono.training.interop.export_onnx import export_onnx
from sono.training.interop.onnx_folder import PAGES, write_planes
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import RunInfo, save_model, write_run
from sono.training.model.mask_clip import MaskClip
from sono.training.model.published import load_published

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture(scope="module", params=["gray", "RGB"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose answers depend on the frame and the mask, and its export in the folder `out`."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = load_published(write_openai(folder.with_name("clip.pt"), random_clip()))[0]
    if request.param == "gray":
        torch.manual_seed(0)
        model = MaskClip(ModelConfig(name="nano", image_size=64, pixel_mean=0.2, pixel_std=0.2))
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
        for weight in model.mask_weights():
            weight.normal_(std=0.1)
    save_model(folder / "end", model)
    write_run(folder, RunInfo("run", "standard", (), (), frozenset(), frozenset(), {}, "", {}, {}))
    out = folder.with_name("out")
    out.mkdir()
    umask = os.umask(0o077)
    export_onnx(model, out)
    write_planes(model, PLANES, load_templates("standard"), out)
    fitted = {"temperature": 1.7, "frames": 9, "patients": 3, "planes": len(PLANES)}
    for place in (folder / "end", out):
        write_text(place / "calibration.json", json.dumps(fitted))
    os.umask(umask)
    return folder


@pytest.mark.slow
def test_under_umask_077_every_file_is_for_its_owner_alone(run: Path) -> None:
    files = list(run.with_name("out").iterdir())
    assert len(files) == 9
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def frame(height: int, width: int) -> np.ndarray:
    """Smooth structures, as an enlarged frame has."""
    small = np.random.default_rng(height).integers(0, 256, (9, 12), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def answers(folder: Path, *pictures: Path) -> dict[str, float]:
    """What the script of the folder prints, started in a process that does not know sono."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", folder / "run_onnx.py", *pictures],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    lines = (line.split("  ", 1) for line in done.stdout.splitlines())
    return {name: float(share) for share, name in lines}


@pytest.mark.slow
@pytest.mark.parametrize("size", [(150, 201), (64, 40), (31, 50)])
def test_the_script_gives_the_answers_of_the_model(
    run: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    picture, inside = frame(*size), np.zeros(size, np.bool_)
    inside[5:20, 8:31] = True
    for name, content in {"frame": picture, "mask": inside.astype(np.uint8)}.items():
        write_bytes(tmp_path / f"{name}.png", cv2.imencode(".png", content)[1].tobytes())
    model = sono.load_model(run, "cpu")
    whole = model.classify(picture)
    for files, expected in (
        (["frame"], whole),
        (["frame", "mask"], model.classify(picture, inside)),
    ):
        found = answers(run.with_name("out"), *(tmp_path / f"{name}.png" for name in files))
        assert found == pytest.approx(expected, abs=2e-3) and len(found) == len(PLANES)
        assert list(found.values()) == sorted(found.values(), reverse=True)
    assert max(abs(found[name] - share) for name, share in whole.items()) > 4e-3  # the mask counts


def test_the_text_graph_gives_the_planes_from_the_tokens(run: Path) -> None:
    out = run.with_name("out")
    planes = json.loads((out / "planes.json").read_text())
    assert [(plane["id"], plane["name"]) for plane in planes] == [(p.id, p.name) for p in PLANES]
    tokens = np.load(out / "tokens.npy")
    assert len(tokens) == sum(len(plane["prompts"]) for plane in planes)
    session = onnxruntime.InferenceSession(str(out / "text.onnx"))
    features = session.run(None, {"tokens": tokens})[0]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    means = features.reshape(len(planes), -1, features.shape[1]).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means, np.load(out / "planes.npy"), atol=1e-4)


def test_the_page_names_every_file_input_and_output(run: Path) -> None:
    out = run.with_name("out")
    page = (out / "README.md").read_text()
    for file in out.iterdir():
        assert file.name == "README.md" or f"`{file.name}`" in page, file.name
    for name in ("image.onnx", "text.onnx"):
        session = onnxruntime.InferenceSession(str(out / name))
        for each in (*session.get_inputs(), *session.get_outputs()):
            kind = {"tensor(float)": "float32", "tensor(int64)": "int64"}[each.type]
            assert re.search(rf"`{each.name}`.* \| {kind} \|", page), each.name


def test_the_gate_lets_the_pages_pass_only_as_they_are(
    run: Path, own_study: Workspace, tmp_path: Path
) -> None:
    for file in run.with_name("out").iterdir():
        if file.suffix != ".onnx":  # the rest is not weights
            shutil.copy(file, tmp_path / "study" / file.name)
    sources = own_study.sources()
    names = ["Lindqvist^Ann", "Pillow^Ann", "Cubic^Ann"]  # two are words of the pages
    sources.at[0, "persons"] = sources.at[0, "private"] = names
    write_table(own_study.sources_path, sources, SOURCES, mode=0o600)
    assert check_privacy(own_study) > 0
    for name in PAGES:
        page = own_study.root / name
        before = page.read_text()
        write_text(page, f"{before}\n# Lindqvist\n")
        with pytest.raises(PrivacyError, match=name):
            check_privacy(own_study)
        write_text(page, before)


def test_an_export_has_what_makes_the_graphs_usable(
    own_study: Workspace, tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_runs, "export_onnx", lambda model, out: ())
    folder = own_study.runs / "run"
    save_model(folder / "end", MaskClip(ModelConfig(name=tiny)))
    write_run(folder, RunInfo("run", "standard", (), (), frozenset(), frozenset(), {}, "", {}, {}))
    write_text(folder / "end" / "calibration.json", "{}")
    summary = model_runs.export_model(own_study, folder, tmp_path / "out", "onnx")
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert {file.name for file in summary.files} == written
    assert written == {"planes.json", "planes.npy", "tokens.npy", "calibration.json", *PAGES}
