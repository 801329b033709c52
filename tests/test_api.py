"""The Python API: what `import sono` offers, with paths as str or Path and errors in one line."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import sono
from sono.annotation.captions import build_captions
from sono.annotation.mask_import import import_masks
from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.study import make_phantom
from sono.curation.qc import QcOptions, run_qc
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import RunInfo, save_model, write_run
from sono.training.model.mask_clip import MaskClip

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("api") / "export"
    make_phantom(out, 4, 4)
    return out


@pytest.fixture(scope="module")
def workspace(export: Path) -> Workspace:
    study = Workspace.create(export.parent / "study")
    records = export / "records.csv"
    run_qc(study, QcOptions(export / "raw", records, center_from="Hospital"), Engine(jobs=1))
    import_masks(study, export / "masks.coco.json")
    build_captions(study)
    return study


@pytest.fixture(scope="module")
def study(workspace: Workspace) -> sono.Study:
    return sono.Study(str(workspace.root))


@pytest.fixture(scope="module")
def run(workspace: Workspace) -> Path:
    """A run with a model as it begins, whose mask filters are not zero."""
    torch.manual_seed(0)
    model = MaskClip(ModelConfig(name="nano", image_size=64))
    with torch.no_grad():
        for weight in model.mask_weights():
            weight.normal_(std=0.5)
    folder = workspace.runs / "hand-made"
    (folder / "best").mkdir(parents=True)
    save_model(folder / "best", model)
    info = RunInfo("hand-made", "standard", (), (), frozenset(), frozenset(), {}, "", {}, {})
    write_run(folder, info)
    return folder


def test_import_loads_nothing_heavy_and_lists_its_names() -> None:
    heavy = "{'torch', 'pandas', 'numpy', 'cv2', 'pydicom', 'matplotlib', 'open_clip', 'typer'}"
    listed = "set(sono.__all__) <= set(dir(sono))"
    code = f"import sys, sono; print(sorted({heavy} & set(sys.modules)), {listed})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
    assert all(getattr(sono, name) is not None for name in sono.__all__)
    with pytest.raises(AttributeError, match="no attribute 'study'"):
        _ = sono.study


def test_a_study_gives_tables_frames_and_masks(study: sono.Study, workspace: Workspace) -> None:
    assert len(study.images) == len(workspace.images()) and len(study.captions) > 0
    row = study.masks.iloc[0]
    frame, mask = study.frame(row["image_id"]), study.mask(row["mask_id"])
    assert frame.dtype == np.uint8 and mask.dtype == np.bool_ and frame.shape == mask.shape
    assert mask.sum() == row["area"] and "Study(" in repr(study)


def test_a_study_names_what_it_does_not_hold(study: sono.Study, tmp_path: Path) -> None:
    with pytest.raises(sono.SonoError, match="no frame 'nothing'"):
        study.frame("nothing")
    with pytest.raises(sono.SonoError, match="no mask 'nothing'"):
        study.mask("nothing")
    other = study.images[(study.images["status"] != "accepted") & study.images["image_id"].notna()]
    accepted = set(study.images.loc[study.images["status"] == "accepted", "image_id"])
    refused = next(name for name in other["image_id"] if name not in accepted)
    with pytest.raises(sono.SonoError, match="only accepted frames are stored"):
        study.frame(refused)
    with pytest.raises(sono.SonoError, match="no workspace here"):
        sono.Study(tmp_path)


def test_read_image_gives_what_qc_stores(study: sono.Study, workspace: Workspace) -> None:
    """For every accepted frame the same crop, spacing and, but for the study's own, reasons."""
    sources = workspace.sources().set_index(["source_id", "frame"])
    images = study.images[study.images["status"] == "accepted"]
    compared = 0
    for row in images.itertuples():
        path = sources.loc[(row.source_id, row.frame), "path"]
        frame = sono.read_image(path.decode())[row.frame]
        assert frame.crop is not None and frame.sector is not None
        assert np.array_equal(frame.crop, study.frame(row.image_id))
        assert frame.row_spacing_mm == pytest.approx(row.row_spacing_mm, nan_ok=True) or (
            frame.row_spacing_mm is None
        )
        assert set(frame.reasons) <= set(row.reasons)
        assert frame.status == "accepted"
        compared += 1
    assert compared > 5


def test_read_image_reads_a_picture_and_refuses_other_files(tmp_path: Path) -> None:
    cv2_bytes = cv2.imencode(".png", np.zeros((200, 200), np.uint8))[1].tobytes()
    (tmp_path / "black.png").write_bytes(cv2_bytes)
    frame = sono.read_image(tmp_path / "black.png")[0]
    assert (frame.sector, frame.crop) == (None, None) and frame.status == "rejected"
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(sono.SonoError, match=r"note\.txt: .*\(not_an_image\)"):
        sono.read_image(str(tmp_path / "note.txt"))
    with pytest.raises(sono.SonoError, match=r"missing\.png"):
        sono.read_image(tmp_path / "missing.png")


def test_a_model_encodes_classifies_and_sees_the_mask(study: sono.Study, run: Path) -> None:
    model = sono.load_model(str(run), device="cpu")
    row = study.masks.iloc[0]
    frame, mask = study.frame(row["image_id"]), study.mask(row["mask_id"])
    whole, inside = model.encode_image(frame), model.encode_image(frame, mask)
    assert whole.shape == inside.shape and np.linalg.norm(whole) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(whole, inside, atol=1e-3)  # another mask, other features
    texts = model.encode_text(["a fetal head", "a femur"])
    assert texts.shape == (2, len(whole)) and model.encode_text([]).shape == (0, len(whole))
    shares = model.classify(frame)
    assert len(shares) == 24 and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert list(shares) != list(model.classify(frame, mask)) or shares != model.classify(
        frame, mask
    )


def test_colors_and_gray_of_one_picture_give_the_same(study: sono.Study, run: Path) -> None:
    model = sono.load_model(run, device="cpu")
    frame = study.frame(study.masks.iloc[0]["image_id"])
    assert np.array_equal(model.encode_image(frame), model.encode_image(np.dstack([frame] * 3)))


def test_wrong_arguments_of_a_model_are_one_line(run: Path, tmp_path: Path) -> None:
    model = sono.load_model(run, device="cpu")
    frame = np.zeros((50, 60), np.uint8)
    for image, words in (
        (frame / 255, "type float64"),
        (frame[None, None], "shape"),
        (frame[:0], "shape"),
    ):
        with pytest.raises(sono.SonoError, match=words):
            model.encode_image(image)
    with pytest.raises(sono.SonoError, match=r"mask has shape \(60, 50\)"):
        model.encode_image(frame, np.ones((60, 50), np.bool_))
    with pytest.raises(sono.SonoError, match="mask > 0"):
        model.encode_image(frame, np.ones((50, 60)))
    with pytest.raises(sono.SonoError, match="a list of texts"):
        model.encode_text("a femur")
    with pytest.raises(sono.SonoError, match="no such run"):
        sono.load_model(tmp_path / "none")
    with pytest.raises(sono.SonoError):
        sono.load_sonoclip("a.pt", "b.pth")


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    script = "import matplotlib; matplotlib.use('Agg')\n" + "\n".join(cells)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "study" / "images.parquet").is_file()
