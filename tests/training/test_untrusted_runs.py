"""Run folders that somebody else has written: sizes, paths and links in them are not believed."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from quick import quick

from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.training import train as module
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import (
    MODEL,
    RUN,
    TEXT,
    WEIGHTS,
    load_model,
    load_weights,
    read_run,
    save_model,
)
from sono.training.model.mask_clip import MaskClip
from sono.training.train import train


@pytest.fixture
def folder(tiny: str, tmp_path: Path) -> Path:
    """A checkpoint of the smallest model."""
    save_model(tmp_path / "end", MaskClip(ModelConfig(name=tiny, image_size=32)))
    return tmp_path / "end"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def architecture(**values: Any) -> dict[str, Any]:
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    whole: dict[str, Any] = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    for name, value in values.items():
        place = whole if name in whole else vision if name in (*vision, "timm_model_name") else text
        place[name] = value
    return whole


@pytest.mark.parametrize(
    "values",
    [
        {"image_size": 0},
        {"image_size": -32},
        {"image_size": 1_000_000},
        {"image_size": 7},
        {"context_length": 10**9},
        {"embed_dim": 10**9},
        {"architecture": architecture(embed_dim=10**9)},
        {"architecture": architecture(embed_dim=0)},
        {"architecture": architecture(layers=10**6)},
        {"architecture": architecture(width=10**6)},
        {"architecture": architecture(image_size=[10**6, 10**6])},
        {"architecture": architecture(patch_size=0)},
        {"architecture": architecture(embed_dim="many")},
        {"architecture": {"embed_dim": 16}},
        {"architecture": architecture(timm_model_name="local-dir:/etc")},
        {"architecture": architecture(hf_model_name="/etc")},
        {"text_tower": "/etc/passwd"},
        {"text_tower": "../../other"},
    ],
)
def test_sizes_and_places_that_no_checkpoint_has_are_one_line(
    folder: Path, values: dict[str, Any]
) -> None:
    change(folder / MODEL, **values)
    with pytest.raises(SonoError) as refused:
        load_weights(folder)
    assert len(str(refused.value).splitlines()) == 1
    assert str(folder) in str(refused.value) or "frames are letterboxed" in str(refused.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5_000, "[1]", "null", "\x00", ""]
)
@pytest.mark.parametrize("name", [MODEL, RUN])
def test_json_that_is_none_is_one_line(folder: Path, name: str, text: str) -> None:
    place = folder if name == MODEL else folder.parent
    (place / name).write_text(text)
    with pytest.raises(SonoError, match="damaged"):
        load_weights(folder) if name == MODEL else read_run(place)


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, f"{TEXT}/vocab.txt"])
def test_a_link_out_of_a_checkpoint_and_a_pipe_are_refused(
    folder: Path, tmp_path: Path, name: str
) -> None:
    outside, place = tmp_path / "outside", folder / name
    place.parent.mkdir(exist_ok=True)
    outside.write_bytes(place.read_bytes() if place.exists() else b"word\n")
    place.unlink(missing_ok=True)
    place.symlink_to(outside)
    with pytest.raises(SonoError, match="leads out of"):
        load_weights(folder)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(SonoError, match="a pipe, socket or device"):
        load_weights(folder)


def test_a_run_may_be_a_link_but_its_checkpoint_may_not(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "toy"
    run.mkdir(parents=True)
    (run / "end").symlink_to(folder)
    with pytest.raises(SonoError, match="leads out of"):
        load_model(run)


def test_two_unnamed_runs_at_once_take_two_names(
    own_study: Workspace, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(model=tiny, image_size=32, epochs=1, batch_size=8)
    met, read = threading.Barrier(2), module.read_inputs

    def together(*args: Any) -> Any:
        met.wait(60)  # both have looked for a free name before either takes one
        return read(*args)

    monkeypatch.setattr(module, "read_inputs", together)
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(train(own_study, config).run))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(names) == ["run-001", "run-002"]
    assert {path.name for path in own_study.runs.glob(f"*/{RUN}")} == {RUN}
    assert [read_run(own_study.runs / name).name for name in sorted(names)] == sorted(names)
