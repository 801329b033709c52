"""Region control from end to end.

Each structure of the study has its own brightness, and the models see it.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from studies import fill_vault
from torch import Tensor, nn

from sono.annotation.masks import concat_masks, mask_row, mask_table
from sono.annotation.proposers import Proposal
from sono.curation.core.atomic import sha256, write_bytes, write_text
from sono.curation.core.console import stderr_console
from sono.curation.core.frame_files import frame_file
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import IMAGES, MASKS, empty_table, from_rows
from sono.curation.core.workspace import Workspace
from sono.evaluation import evaluate as evaluation
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.modes import MODES
from sono.evaluation.region_control.measures import CONDITIONS, naming_accuracy
from sono.evaluation.region_control.regions import RegionStudy, encode_regions, read_regions
from sono.evaluation.region_control.results import NOT_TESTED
from sono.evaluation.view import EvaluationResult
from sono.evaluation.zero_shot import masked_features, mode_features
from sono.templates.loader import load_templates
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import WEIGHTS, RunInfo
from sono.training.model.mask_clip import MaskClip

SHOWN = {
    "eye": ("left orbit", "right orbit", "left lens"),
    "both_kidneys": ("left kidney", "right kidney", "spine"),
}
LEVELS = {
    name: 40 + 30 * number
    for number, name in enumerate(name for names in SHOWN.values() for name in names)
}
PLACES = ((4, 4), (4, 20), (20, 4), (20, 20))
SIDE = 32


class BrightnessReader(nn.Module):
    """A model that names the structure whose brightness is nearest to the mean under the mask.

    It does not recognize planes.
    """

    image_size = SIDE

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.3))

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        mean = 255 * (image * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp(min=1)
        nearest = (
            (mean[:, None] - torch.tensor([*LEVELS.values()], dtype=torch.float32))
            .abs()
            .argmin(dim=1)
        )
        return nn.functional.one_hot(nearest, len(LEVELS) + 1).float()

    def encode_texts(self, texts: list[str]) -> Tensor:
        names = [*LEVELS]
        found = [
            next((names.index(name) for name in names if name in text), len(names))
            for text in texts
        ]
        return nn.functional.one_hot(torch.tensor(found), len(names) + 1).float()


def add_frames(
    workspace: Workspace, planes: dict[str, tuple[str, ...]] = SHOWN, center: str = "new"
) -> None:
    """8 patients with a frame of each plane, whose structures are squares.

    The places of the squares differ between frames.
    """
    rows, masks = [], []
    rng = np.random.default_rng(sum(center.encode()))
    split = "test" if center == "new" else "val"
    for patient in range(8):
        for plane, structures in planes.items():
            gray = rng.integers(0, 9, (SIDE, SIDE), np.uint8)
            places = [slice_of(PLACES[place]) for place in rng.permutation(4)[: len(structures)]]
            for place, structure in zip(places, structures, strict=True):
                gray[place] = LEVELS[structure]
            image_id = sha256(gray.tobytes())[:16]
            file = frame_file(image_id, gray)
            write_bytes(workspace.root / file, cv2.imencode(".png", gray)[1].tobytes())
            row: dict[str, object] = {
                "image_id": image_id,
                "source_id": image_id,
                "frame": 0,
                "file": file,
            }
            row |= {
                "height": SIDE,
                "width": SIDE,
                "plane": plane,
                "status": "accepted",
                "split": split,
            }
            rows.append(row | {"patient_id": f"{center}{patient}", "center": center})
            for place, structure in zip(places, structures, strict=True):
                masks.append(mask_row(row, marked(place), structure, "manual", state="accepted"))
    workspace.write(
        IMAGES, pd.concat([workspace.read(IMAGES), from_rows(IMAGES, rows)], ignore_index=True)
    )
    workspace.write(MASKS, concat_masks([workspace.masks(), mask_table(masks)]))


def slice_of(corner: tuple[int, int]) -> tuple[slice, slice]:
    return slice(corner[0], corner[0] + 8), slice(corner[1], corner[1] + 8)


def marked(place: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[place] = True
    return mask


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "study")
    write_text(
        workspace.config_path, "[evaluation]\nbootstrap_draws = 100\nbatch_size = 7\nmodes = []\n"
    )
    add_frames(workspace)
    (workspace.runs / "toy" / "end").mkdir(parents=True)
    (workspace.runs / "toy" / "run.json").write_text("{}")
    (workspace.runs / "toy" / WEIGHTS).write_text("of a model that the test gives")
    return workspace


Run = Callable[..., EvaluationResult]


@pytest.fixture
def run(study: Workspace, toy_info: RunInfo, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Evaluate the study with a model.

    Only where it is asked for with the report, which takes a second.
    """
    write = evaluation.write_report

    def evaluated(model: nn.Module | None = None, report: bool = False) -> EvaluationResult:
        chosen = model or BrightnessReader()
        monkeypatch.setattr(evaluation, "write_report", write if report else lambda *given: None)
        monkeypatch.setattr(evaluation, "load_model", lambda folder: (chosen, toy_info))
        return evaluate(study, EvaluationOptions())

    return evaluated


def small_clip() -> MaskClip:
    torch.manual_seed(0)
    return MaskClip(ModelConfig(name="nano", image_size=48)).eval()


def region_study(workspace: Workspace, model: nn.Module) -> RegionStudy:
    frames = workspace.accepted_images().sort_values("image_id").reset_index(drop=True)
    files = [workspace.root / str(file) for file in frames["file"]]
    clusters = np.unique(frames["patient_id"], return_inverse=True)[1].astype(np.int64)
    return RegionStudy(model, frames, files, clusters, PlaneTable(), load_templates("standard"), 5)


def test_a_model_that_reads_the_pixels_under_the_mask_steers(run: Run) -> None:
    control = run().metrics["region_control"]
    assert control["verdict"]["steers"]
    assert control["verdict"]["text"].startswith(
        "100.0 % [76.4, 100.0] of masked structures are named correctly"
    )
    assert "unseen phrasings lose nothing" in control["verdict"]["text"]
    assert control["conditions"]["own"]["in_plane"]["point"] == control["follow"]["point"] == 1
    assert control["conditions"]["own"]["among_all"]["point"] == 1
    # places change from frame to frame, so the same place on another frame shows something else
    assert control["differences"]["place_and_shape"]["low"] > 0.2
    assert control["conditions"]["gray_frame"]["in_plane"]["point"] <= 0.5
    assert control["cosine"]["between_masks"]["point"] == 0
    assert control["conditions"]["moved"]["masks"] == control["masks"] == 48
    assert control["conflict"]["neither"]["point"] == 1  # its features know no plane
    assert {
        row["structure"]: row["own"]["point"] for row in control["structures"]
    } == dict.fromkeys(sorted(LEVELS), 1.0)
    assert all(row["own"]["low"] < 1 for row in control["structures"])


def test_a_model_whose_mask_filters_are_cut_is_said_not_to_steer(run: Run) -> None:
    model = small_clip()
    with torch.no_grad():
        model.stem.mask.weight.normal_()
    frame, masks = np.zeros((2, 48, 48), np.uint8), np.zeros((2, 48, 48), np.bool_)
    masks[1, :20] = True
    first, second = masked_features(model, frame, masks)
    assert not np.array_equal(first, second)
    with torch.no_grad():
        model.stem.mask.weight.zero_()
    found = run(model, report=True)
    control = found.metrics["region_control"]
    assert control["verdict"]["steers"] is False
    assert (control["follow"]["point"], control["cosine"]["between_masks"]["point"]) == (
        0,
        pytest.approx(1, abs=1e-5),
    )
    gain = control["differences"]["all_one"]
    assert gain["point"] == 0 and gain["low"] == -gain["high"] < 0
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    assert ": the mask does not steer. " in text.split("</header>")[0]
    with stderr_console.capture() as shown:
        stderr_console.print(found)
    assert (
        ": the mask does not steer. " in shown.get()
        and "mean cosine between masks 1.000" in shown.get()
    )


def test_the_report_shows_frames_tables_and_the_sentence_on_top(run: Run) -> None:
    found = run(report=True)
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    assert ": the mask steers. " in text.split("</header>")[0]
    for words in (
        "place and shape",
        "Cue conflict",
        "This region is the STRUCTURE.",
        "left kidney",
        "outline and the",
    ):
        assert words in text
    with stderr_console.capture() as shown:
        stderr_console.print(found)
    assert re.search(r"own +100\.0 \[76\.4, 100\.0\] +100\.0", shown.get())
    assert "own the mask of the structure" in " ".join(shown.get().split())
    assert json.loads((found.folder / "metrics.json").read_text(), parse_constant=pytest.fail)[
        "region_control"
    ]


def test_regions_parquet_has_a_row_a_mask_and_condition(run: Run) -> None:
    rows = pd.read_parquet(run().folder / "regions.parquet")
    assert rows.groupby("condition").size().to_dict() == dict.fromkeys(CONDITIONS, 48)
    own = rows[rows["condition"] == "own"]
    assert (own["predicted"] == own["structure"]).all() and (own["rank_of_all"] == 1).all()
    assert all(len(ids) == 1 for ids in rows["mask_ids"])


def test_two_evaluations_give_the_same_features(study: Workspace) -> None:
    model, masks = small_clip(), study.masks()
    with torch.no_grad():
        model.stem.mask.weight.normal_()
    material = region_study(study, model)
    whole = mode_features(
        model, material.files, ["all_one"], lambda m, n: np.ones((48, 48), np.bool_), 5
    )["all_one"]
    first = encode_regions(material, masks, whole)
    second = encode_regions(
        replace(material, batch_size=64), masks.sample(frac=1, random_state=0), whole
    )
    assert first.data is not None and second.data is not None
    for name in CONDITIONS:
        np.testing.assert_allclose(first.data.features[name], second.data.features[name], atol=1e-5)


def test_masks_of_one_structure_are_united_and_those_that_mark_no_region_are_counted(
    study: Workspace,
) -> None:
    frames = study.accepted_images()
    row = frames.iloc[0].to_dict()
    dot, whole, two = np.zeros((3, SIDE, SIDE), np.bool_)
    dot[5, 5], whole[:], two[20:28, 2:10] = True, True, True
    drawn = {"spine": dot, "liver": whole, "left lens": two}
    masks = mask_table(
        [mask_row(row, mask, name, "manual", state="edited") for name, mask in drawn.items()]
        + [mask_row(row, two[:, ::-1], "left lens", "import", state="accepted")]
        + [mask_row(row, two, "stomach", "manual", state="proposed")]
    )
    found = read_regions(masks, frames, 8)
    assert [region.structure for region in found.masks] == ["left lens"]
    assert (len(found.masks[0].mask_ids), found.masks[0].pixels().sum()) == (2, 12)
    assert found.left_out == {"covering the whole frame": 1, "too small for the model's square": 1}


def test_a_study_without_usable_masks_says_so(study: Workspace, run: Run) -> None:
    study.write(MASKS, study.masks().assign(state="proposed"))
    found, why = run(report=True), "no frame has an accepted or edited mask"
    assert found.metrics["region_control"]["verdict"] == {
        "steers": None,
        "text": f"{NOT_TESTED}{why}.",
    }
    assert why in (found.folder / "report.html").read_text(encoding="utf-8")
    assert len(pd.read_parquet(found.folder / "regions.parquet")) == 0


def test_masks_that_cover_everything_mark_no_region(study: Workspace, run: Run) -> None:
    frames, whole = study.accepted_images().to_dict("records"), np.ones((SIDE, SIDE), np.bool_)
    study.write(
        MASKS,
        mask_table(
            [mask_row(row, whole, "left orbit", "manual", state="accepted") for row in frames]
        ),
    )
    assert "no mask marks a region (16 covering the whole frame)" in run().region_verdict


def test_planes_with_one_structure_need_no_mask(study: Workspace, run: Run) -> None:
    LEVELS["femur"] = 220
    try:
        study.write(IMAGES, empty_table(IMAGES))
        study.write(MASKS, empty_table(MASKS))
        add_frames(study, {"femur": ("femur",)})
        found = run()
    finally:
        del LEVELS["femur"]
    assert "each plane with masks has one structure" in found.region_verdict


def test_frames_with_one_mask_each_have_no_follow_rate(study: Workspace, run: Run) -> None:
    study.write(MASKS, study.masks().drop_duplicates("image_id"))
    found = run()
    assert ": the mask is not shown to steer. " in found.region_verdict
    assert "No frame has masks of two structures to follow" in found.region_verdict


def test_one_patient_gives_numbers_without_an_interval(study: Workspace, run: Run) -> None:
    study.write(IMAGES, study.images().assign(patient_id="one"))
    fill_vault(study)
    found = run()
    assert ": the mask is not shown to steer. " in found.region_verdict
    assert "unknown without a second patient" in found.region_verdict


def test_a_donor_shows_the_same_mask_on_another_patients_frame(study: Workspace) -> None:
    material = region_study(study, BrightnessReader())
    whole = np.zeros((len(material.frames), len(LEVELS) + 1), np.float32)
    data = encode_regions(material, study.masks(), whole).data
    assert data is not None
    assert data.has("place_and_shape").all()
    assert 0 < naming_accuracy(data, "place_and_shape") < 1 == naming_accuracy(data)


def squares(gray: np.ndarray) -> list[Proposal]:
    """The three squares of a frame, one for each kind of outline."""
    return [Proposal(None, gray == level, 1.0, 1.0) for level in np.unique(gray[gray > 30])[:3]]


@pytest.fixture
def with_regions(study: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr("sono.evaluation.outlines.propose_each_kind", squares)
    write_text(study.config_path, "[evaluation]\nbootstrap_draws = 100\nmodes = ['regions']\n")
    return study


def test_regions_give_the_plane_with_a_weight_that_validation_frames_choose(
    with_regions: Workspace, run: Run
) -> None:
    add_frames(with_regions, center="old")
    found = run(report=True)
    modes, chosen = found.metrics["groups"][0]["modes"], found.metrics["region_planes"]
    assert modes["all_one"]["top1_macro"]["point"] == 0  # the reader knows no plane
    assert modes["regions"]["top1_macro"]["point"] == 1
    assert list(modes) == [mode for mode in MODES if mode in modes]
    assert (chosen["weight"], chosen["frames"]) == (0.1, 16)
    assert [choice["top1_macro"] for choice in chosen["tried"]][:2] == [0, 1]
    assert "chosen on 16 validation frames" in (found.folder / "report.html").read_text(
        encoding="utf-8"
    )
    # any square of a frame shows a structure of its plane, so the squares of another frame are as
    # good
    assert not chosen["helps"] and "those of other frames gain as well" in found.regions_verdict


def test_without_validation_frames_regions_are_not_tested_or_need_a_weight(
    with_regions: Workspace, run: Run
) -> None:
    found = run()
    assert set(found.metrics["groups"][0]["modes"]) == {"all_one"}
    assert "not tested: no validation frames" in found.regions_verdict
    write_text(
        with_regions.config_path,
        "[evaluation]\nbootstrap_draws = 100\nmodes = []\nregion_weight = 2\n",
    )
    assert run().regions_verdict == ""
    write_text(
        with_regions.config_path,
        "[evaluation]\nbootstrap_draws = 100\nmodes = ['regions']\nregion_weight = 2\n",
    )
    assert "(weight 2, set in sono.toml)" in run().regions_verdict
