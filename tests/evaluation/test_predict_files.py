"""`sono predict`: the reading of `sono qc`, calibrated answers, and nothing private."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from phantom_frames import write_frames
from rich.console import Console

import sono
from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import letterbox, letterbox_mask
from sono.curation.core.workspace import Workspace
from sono.curation.imaging.quality import QualityConfig
from sono.evaluation.calibrate import Calibration, load_calibration, save_calibration
from sono.evaluation.prediction.files import PredictOptions, predict_files
from sono.evaluation.prediction.reading import CARD_SIDE, ReadTask, read_file, spread
from sono.evaluation.prediction.view import Predictions
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import CALIBRATION, RunInfo, save_model, write_run
from sono.training.model.mask_clip import MaskClip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, a model whose mask filters are not zero, and three files in `raw`."""
    base = tmp_path_factory.mktemp("predict")
    write_frames(base / "raw", range(2))
    (base / "raw" / "Okonkwo.txt").write_text("no picture")
    torch.manual_seed(0)
    model = MaskClip(ModelConfig(name="nano", image_size=64))
    with torch.no_grad():
        for weight in model.mask_weights():
            weight.normal_(std=0.5)
    save_model(base / "run" / "best", model)
    info = RunInfo("toy", "standard", (), (), frozenset(), frozenset(), {}, "", {}, {})
    write_run(base / "run", info)
    return base


def predicted(place: Path, *files: str, **options: object) -> Predictions:
    paths = tuple(place / file for file in files)
    return predict_files(None, PredictOptions(paths, str(place / "run"), **options), Engine())


def test_each_file_has_a_row_in_order_with_a_reason_where_there_is_no_answer(place: Path) -> None:
    found = predicted(place, "raw/IM_1.png", "raw", top=2)
    assert [row.file for row in found.rows] == [1, 2, 3]  # a file that is given twice has one row
    assert [len(row.planes) for row in found.rows] == [2, 2, 0]
    assert (found.rows[2].status, found.rows[2].reasons) == ("not read", ("not_an_image",))
    assert "not an image or DICOM file" in found.rows[2].notes


def test_the_answer_is_that_of_the_crop_of_qc(place: Path) -> None:
    row = predicted(place, "raw/IM_0.png", top=24, texts=("a femur",)).rows[0]
    crop = sono.read_image(place / "raw" / "IM_0.png")[0].crop
    model = sono.load_model(place / "run", device="cpu")
    shares = model.classify(crop)
    assert [answer.text for answer in row.planes] == list(shares)
    assert [answer.value for answer in row.planes] == pytest.approx(list(shares.values()), abs=1e-4)
    cosine = float(model.encode_image(crop) @ model.encode_text(["a femur"])[0])
    assert row.texts[0].value == pytest.approx(cosine, abs=1e-4)


def test_no_name_is_printed_or_kept_unless_it_is_asked_for(place: Path) -> None:
    before = sorted(place.rglob("*"))
    found = predicted(place, "raw")
    console = Console(width=200, record=True)
    console.print(found)
    shown = console.export_text() + json.dumps(found.as_dict())
    assert "Okonkwo" not in shown and "IM_" not in shown and str(place) not in shown
    assert "--names prints paths" in shown and "always named" in shown
    assert sorted(place.rglob("*")) == before
    assert predicted(place, "raw", names=True).rows[2].path == str(place / "raw" / "Okonkwo.txt")


def test_a_mask_is_of_the_picture_or_of_its_crop(place: Path, tmp_path: Path) -> None:
    frame = sono.read_image(place / "raw" / "IM_0.png")[0]
    assert frame.sector is not None and frame.crop is not None
    x0, y0, x1, y1 = frame.sector.box
    whole = np.zeros(frame.gray.shape, np.uint8)
    cv2.circle(whole, ((x0 + x1) // 2, (y0 + y1) // 2), 60, 255, -1)
    masks = {"whole": whole, "crop": whole[y0:y1, x0:x1], "none": 0 * whole, "odd": whole[::2]}
    for name, mask in masks.items():
        (tmp_path / f"{name}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    rows = [
        predicted(place, "raw/IM_0.png", mask=tmp_path / f"{name}.png").rows[0]
        for name in ("whole", "crop")
    ]
    assert rows[0] == rows[1] and rows[0].mask == "the given mask"
    assert rows[0].planes != predicted(place, "raw/IM_0.png").rows[0].planes
    with pytest.raises(SonoError, match="marks nothing; give"):
        predicted(place, "raw/IM_0.png", mask=tmp_path / "none.png")
    with pytest.raises(SonoError, match=r"the mask has \d+ x \d+ pixels, the picture"):
        predicted(place, "raw/IM_0.png", mask=tmp_path / "odd.png")
    with pytest.raises(SonoError, match="--mask is of one file, but these are 3"):
        predicted(place, "raw", mask=tmp_path / "whole.png")
    with pytest.raises(SonoError, match="exclude each other"):
        predicted(place, "raw", mask=tmp_path / "whole.png", propose=True)


def test_a_map_is_painted_on_the_sector_alone(place: Path, tmp_path: Path) -> None:
    frame = sono.read_image(place / "raw" / "IM_0.png")[0]
    assert frame.sector is not None and frame.crop is not None
    x0, y0, x1, y1 = frame.sector.box
    inside = letterbox_mask(frame.sector.inside[y0:y1, x0:x1], CARD_SIDE)
    into = tmp_path / "map.png"
    predicted(place, "raw/IM_0.png", texts=("a femur",), map=into)
    sheet = cv2.imdecode(np.fromfile(into, np.uint8), cv2.IMREAD_COLOR)
    drawn, *maps = (sheet[:CARD_SIDE, left : left + CARD_SIDE] for left in (0, 266, 532))
    assert np.array_equal(drawn[..., 0], letterbox(frame.crop, CARD_SIDE))
    for one in maps:
        colored = one.max(axis=2) != one.min(axis=2)
        assert not colored[~inside].any() and colored[inside].mean() > 0.5


def test_maps_of_a_phrase_are_drawn_with_and_without_the_mask(place: Path, tmp_path: Path) -> None:
    crop = sono.read_image(place / "raw" / "IM_0.png")[0].crop
    mask = np.zeros(crop.shape, np.uint8)
    mask[: crop.shape[0] // 2] = 255
    path, into = tmp_path / "mask.png", tmp_path / "map.png"
    path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    words = ("a femur", "a head", "an eye", "the heart", "an abdomen", "a leg", "twins", "bone")
    texts = predicted(place, "raw/IM_0.png", mask=path, texts=words).rows[0].texts
    nearest = max(texts, key=lambda answer: answer.value)
    given: dict[str, object] = {"texts": (nearest.text,), "map": into}
    found = predicted(place, "raw/IM_0.png", mask=path, **given)
    kinds = [(one.kind, one.masked) for one in found.maps]
    assert kinds == [(kind, way) for kind in ("occlusion", "cells") for way in (False, True)]
    cosine = found.rows[0].texts[0].value
    assert [one.cosine for one in found.maps[1::2]] == pytest.approx([cosine] * 2, abs=2e-4)
    assert all(0 <= one.inside <= 1 for one in found.maps if one.inside is not None)
    assert found.maps[1].inside != found.maps[0].inside
    assert found.maps[3].inside != found.maps[2].inside
    assert cv2.imread(str(into)).shape[1] == 5 * 266 - 10  # noqa: TID251
    plain = predicted(place, "raw/IM_0.png", **given)
    assert [one.inside for one in plain.maps] == [None, None]
    assert plain.maps[0].words.startswith("occlusion map: cosine")
    console = Console(width=200, record=True)
    console.print(found)
    shown = console.export_text()
    assert "occlusion map, with the mask: cosine" in shown and f"picture: {into}" in shown
    with pytest.raises(SonoError, match="--map needs words; give --text"):
        predicted(place, "raw/IM_0.png", map=into)
    with pytest.raises(SonoError, match="--map is of one file, but these are 3"):
        predicted(place, "raw", **given)
    with pytest.raises(SonoError, match="the picture is a PNG"):
        predicted(place, "raw/IM_0.png", texts=("a femur",), map=tmp_path / "map.jpg")


def test_proposed_outlines_are_named_and_drawn(place: Path, tmp_path: Path) -> None:
    found = predicted(place, "raw", propose=True, picture=tmp_path / "look.png")
    assert found.rows[0].mask.startswith("outline of ")
    sheet = cv2.imread(str(tmp_path / "look.png"))  # noqa: TID251
    assert sheet.shape[1] == 2 * 256 + 10  # two tiles
    assert (np.ptp(sheet.astype(int), axis=2) > 60).sum() > 100  # colored outlines


def test_the_temperature_of_the_checkpoint_is_used(place: Path, tmp_path: Path) -> None:
    sharp = predicted(place, "raw/IM_0.png")
    assert sharp.source.startswith("probabilities are not calibrated; `sono eval`")
    try:
        save_calibration(place / "run" / "best", Calibration(1e6, 30, 4, 24))
        flat = predicted(place, "raw/IM_0.png")
    finally:
        (place / "run" / "best" / CALIBRATION).unlink()
    assert "fitted on 30 validation frames of 4 patients" in flat.source
    assert flat.rows[0].planes[0].value == pytest.approx(1 / 24, abs=1e-4)
    assert sharp.rows[0].planes[0].value > 1 / 24 + 1e-3
    (tmp_path / CALIBRATION).write_text('{"temperature": 0}')
    with pytest.raises(SonoError, match=r"calibration\.json: damaged.*run `sono eval` again"):
        load_calibration(tmp_path)
    (tmp_path / CALIBRATION).write_text(
        '{"temperature": 0, "frames": 1, "patients": 1, "planes": 24}'
    )
    with pytest.raises(SonoError, match="run `sono eval` again"):
        load_calibration(tmp_path)


def test_a_frame_that_a_person_must_check_is_not_drawn(place: Path) -> None:
    gray = cv2.imdecode(np.fromfile(place / "raw" / "IM_0.png", np.uint8), cv2.IMREAD_GRAYSCALE)
    middle = (gray.shape[1] // 2 - 80, gray.shape[0] // 2)
    cv2.putText(gray, "JOHNSON MARY", middle, cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    (place / "named.png").write_bytes(cv2.imencode(".png", gray)[1].tobytes())
    task = ReadTask(QualityConfig.model_validate({}), 64, draw=True)
    found = read_file(task, bytes(place / "named.png"))
    assert found.status == "quarantined" and len(found.squares) == 1 and found.card is None
    with pytest.raises(SonoError, match="not drawn, because a person must check it"):
        predicted(place, "named.png", texts=("a femur",), map=place / "map.png")
    assert not (place / "map.png").exists()
    clean = read_file(task, bytes(place / "raw" / "IM_0.png"))
    assert clean.card is not None


def test_frames_of_a_cine_are_spread_over_it() -> None:
    found = spread(range(0, 1000, 2))
    assert len(found) == 16 and (found[0], found[-1]) == (0, 998) and found == sorted(set(found))
    assert spread(range(3)) == [0, 1, 2]


def test_wrong_input_is_one_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"the file gives no frame: not an image.*\(not_an_image\)"):
        predicted(place, "raw/Okonkwo.txt")
    with pytest.raises(SonoError, match="does not exist"):
        predicted(place, "nothing.png")
    with pytest.raises(SonoError, match="--text is empty"):
        predicted(place, "raw", texts=(" ",))
    with pytest.raises(SonoError, match="the picture is a PNG"):
        predicted(place, "raw", picture=tmp_path / "look.jpg")
    with pytest.raises(SonoError, match="no workspace here, and --run is not the folder of a run"):
        predict_files(None, PredictOptions((place / "raw",), "toy"))
    (tmp_path / "two").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "two" / name).write_text("no picture")
    with pytest.raises(SonoError, match="none of the 2 files gives a frame: not_an_image 2"):
        predicted(place, str(tmp_path / "two"))
    read = place / "raw" / "IM_0.png"
    before = read.read_bytes()
    for options in ({"picture": read}, {"map": read, "texts": ("head",)}):
        with pytest.raises(SonoError, match="would replace a file that is read here"):
            predicted(place, "raw/IM_0.png", **options)
    both = tmp_path / "both.png"
    with pytest.raises(SonoError, match="--map would replace"):
        predicted(place, "raw/IM_0.png", picture=both, map=both, texts=("head",))
    assert read.read_bytes() == before and not both.exists()
    study = Workspace.create(tmp_path / "study")
    into = PredictOptions((place / "raw",), str(place / "run"), picture=study.frames / "look.png")
    with pytest.raises(SonoError, match="a place for such files"):
        predict_files(study, into)


def test_a_text_that_is_longer_than_the_tower_reads_is_reported(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted(place, "raw/IM_0.png", texts=("head " * 500, "head"))
    assert "1 of 2 texts fill all " in capsys.readouterr().err
