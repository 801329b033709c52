"""`sono search`: exact, kept up to date, and by the same reading as `sono qc`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clip_files import TINY
from commands import Place
from rich.console import Console

import sono
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.frame_files import read_stored
from sono.curation.core.planes import PLANES
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace
from sono.evaluation import evaluate
from sono.evaluation.search import search as module
from sono.evaluation.search.index import best_rows
from sono.evaluation.search.search import SearchOptions
from sono.evaluation.search.view import SearchResult
from sono.training.model import architectures
from sono.training.model.checkpoints import RunInfo

NAMES = [plane.name for plane in PLANES]
INDEX = "packed/search/toy/end/frames.safetensors"


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the run in `place`."""
    monkeypatch.setitem(architectures.SIZES, "tiny", TINY)


def found(study: Workspace, text: str | None = None, **options: object) -> SearchResult:
    return module.search(study, SearchOptions(text, **options))


@pytest.fixture
def lit(study: Workspace, toy_info: RunInfo, monkeypatch: pytest.MonkeyPatch) -> type:
    """The study of flat frames; the model reads the plane from the brightness."""
    kind = type(evaluate.load_model(study.runs)[0])
    for name in ("model.json", "model.safetensors"):
        (study.runs / "toy" / "end" / name).write_text("{}")
    train = study.images().query("split == 'train'")
    info = replace(toy_info, patients_seen=frozenset(), image_ids_seen=frozenset(train["image_id"]))
    monkeypatch.setattr(module, "load_model", lambda folder: (kind(), info))
    return kind


def test_words_find_the_frames_that_show_them(study: Workspace, lit: type) -> None:
    result = found(study, "a fetal femur", top=9)
    images = study.images().set_index("image_id")
    assert [hit.score for hit in result.hits] == [1.0] * 8 + [0.0]
    shown = images.loc[[hit.image_id for hit in result.hits[:8]]]
    assert set(shown["plane"]) == {"femur"} and set(shown["center"]) == {"new", "old"}
    assert [hit.center for hit in result.hits if hit.seen == "frame"] == ["old"]
    assert found(study, "a fetal femur", top=99, center="NEW").frames == 13
    assert cv2.imread(result.sheet).shape[1] > 5 * 256  # noqa: TID251


def test_frames_of_a_patient_who_was_seen_are_marked(
    study: Workspace, lit: type, toy_info: RunInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = replace(toy_info, patients_seen=frozenset({"p1"}))
    monkeypatch.setattr(module, "load_model", lambda folder: (lit(), info))
    hits = found(study, "femur", top=99).hits
    owner = study.images().set_index("image_id")["patient_id"]
    assert {owner[hit.image_id] for hit in hits if hit.seen} == {"p1"}
    assert {hit.seen for hit in hits} == {None, "related"}


def test_a_masked_structure_finds_its_frame(
    study: Workspace, lit: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model sees a leg under every mask that is not the complete square."""
    whole = lit.encode_image
    leg = NAMES.index("lower leg")

    def masked(self: object, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        partly = (mask.amin(dim=(1, 2, 3)) == 0)[:, None]
        return torch.where(partly, torch.eye(len(NAMES))[leg][None], whole(self, image, mask))

    monkeypatch.setattr(lit, "encode_image", masked)
    result = found(study, "the lower leg", top=9)
    masks = study.masks()
    assert result.regions == len(masks) == 6
    hits = {hit.image_id: hit for hit in result.hits if hit.score == 1}
    by_mask = {one: hit for one, hit in hits.items() if hit.structure}
    assert set(by_mask) | set(hits) >= set(masks["image_id"])
    assert {hit.structure for hit in by_mask.values()} == {"femur"}
    assert all(set(hit.mask_ids) <= set(masks["mask_id"]) for hit in by_mask.values())
    without = found(study, "the lower leg", masks=False)
    assert without.regions == 0 and sum(hit.score == 1 for hit in without.hits) == 2
    study.path(MASKS).unlink()
    assert found(study, "the lower leg").hits == without.hits


def test_the_caption_of_the_run_is_shown(study: Workspace, lit: type) -> None:
    image_id = str(study.images().query("plane == 'eye'")["image_id"].iloc[0])
    base = {"image_id": image_id, "level": "global", "tier": "full", "tokens": 3}
    rows = [
        {**base, "text": text, "template": template}
        for text, template in (("The run's.", "standard"), ("Another.", "zz"), ("Old.", "aa"))
    ]
    study.write(CAPTIONS, from_rows(CAPTIONS, rows))
    captions = {hit.image_id: hit.caption for hit in found(study, "femur", top=99).hits}
    assert captions.pop(image_id) == "The run's." and set(captions.values()) == {None}


def test_the_index_follows_the_study(
    study: Workspace,
    lit: type,
    new_frame: Callable[..., dict[str, object]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = found(study, "femur", top=99)
    assert (first.encoded, first.removed) == (14 + 6, 0)  # frames and regions
    again = found(study, "femur", top=99)
    assert (again.encoded, again.removed) == (0, 0) and again.hits == first.hits
    images = study.images()
    row = new_frame(study.root, "femur", "femur", 60, center="new", patient_id="p1", split="test")
    study.sources_path.unlink()
    table = from_rows(IMAGES, [*images.to_dict("records"), row])
    table.loc[table["source_id"] == "s9", "status"] = "quarantined"
    study.write(IMAGES, table)
    later = found(study, "femur", top=99)
    assert (later.encoded, later.removed) == (1, 1) and later.frames == 14
    gone = str(table.loc[table["status"] == "quarantined", "image_id"].iloc[0])
    ids = {hit.image_id for hit in later.hits}
    assert gone not in ids and str(row["image_id"]) in ids
    assert "made again" not in capsys.readouterr().err


def test_another_or_a_damaged_index_is_made_again(
    study: Workspace, lit: type, capsys: pytest.CaptureFixture[str]
) -> None:
    first = found(study, "femur")
    path = study.root / INDEX
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    assert found(study, "femur").hits == first.hits
    assert "frames.safetensors: damaged; it is made again" in capsys.readouterr().err
    assert path.read_bytes() != bytes(content)
    (study.runs / "toy" / "end" / "model.safetensors").write_text("trained again")
    assert found(study, "femur").encoded == 20
    assert "of other weights or another geometry" in capsys.readouterr().err
    path.write_bytes(b"nothing")
    assert found(study, "femur").encoded == 14
    assert "damaged" in capsys.readouterr().err


def test_an_interrupted_index_continues(
    study: Workspace, lit: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sono.evaluation.search.index.AT_A_TIME", 4)
    encode, calls = module._encode_frames, []

    def stopped(*args: object) -> np.ndarray:
        calls.append(len(args[-1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(module, "_encode_frames", stopped)
    with pytest.raises(KeyboardInterrupt):
        found(study, "femur", top=99)
    result = found(study, "femur", top=99)
    assert calls == [4, 4, 4, 4, 2]  # 14 frames, of which 8 were kept
    monkeypatch.setattr(module, "_encode_frames", encode)
    (study.root / INDEX).unlink()
    assert found(study, "femur", top=99).hits == result.hits


@pytest.mark.parametrize("equal", [False, True])
def test_the_search_is_exact(equal: bool) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 24)).astype(np.float32)
    if equal:
        features = features[rng.integers(0, 40, 5000)]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    allowed = rng.random(5000) < 0.5
    query = features[7]
    scores = np.round(features.astype(np.float64) @ query.astype(np.float64), 6)
    for rows in (None, allowed):
        order = np.argsort(-scores, kind="stable")
        best = [row for row in order if rows is None or rows[row]][:50]
        at, values = best_rows(features, query, 50, rows)
        assert at.tolist() == best and values.tolist() == scores[best].tolist()
    assert len(best_rows(features, query, 50, np.zeros(5000, np.bool_))[0]) == 0
    assert len(best_rows(features, query, 9999)[0]) == 5000


def test_a_raw_file_finds_its_own_frame_and_its_region(place: Place) -> None:
    raw = place.raw / "0.png"
    result = found(place.study, image=raw, run="toy")
    assert result.hits[0].score == pytest.approx(1, abs=1e-4) and result.regions == 0
    images = place.study.images().set_index("image_id")
    row = images.loc[result.hits[0].image_id]
    crop = sono.read_image(raw)[0].crop
    np.testing.assert_array_equal(read_stored(place.study.root / str(row["file"])), crop)
    mask = np.zeros((int(row["height"]), int(row["width"])), np.uint8)
    mask[60:120, 80:160] = 255  # as the mask of the study
    path = place.base / "mask.png"
    path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    hit = found(place.study, image=raw, mask=path, run="toy").hits[0]
    assert (hit.structure, hit.image_id) == ("femur", row.name)
    assert hit.score == pytest.approx(1, abs=1e-4)
    both = found(place.study, "a fetal femur", image=raw, run="toy")
    assert both.query == "a fetal femur and a picture" and both.hits[0].score < 1


def test_the_terminal_shows_each_hit_once(study: Workspace, lit: type) -> None:
    console = Console(width=80, record=True)
    result = found(study, "a fetal femur", top=3)
    console.print(result)
    shown = console.export_text()
    assert all(shown.count(hit.image_id[:12]) == 1 for hit in result.hits)
    assert "14 frames and 6 masked structures searched with run toy." in shown


def test_wrong_input_is_one_line(
    study: Workspace, lit: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "note.png"
    text.write_text("no picture")
    cases: list[tuple[str, dict[str, object]]] = [
        ("nothing to search for; give words", {}),
        ("the words are empty", {"text": "  "}),
        ("--mask is of a picture; give it with --image", {"text": "a", "mask": text}),
        ("--no-masks exclude each other", {"image": text, "mask": text, "masks": False}),
        ("unknown center 'nwe'; did you mean 'new'", {"text": "a", "center": "nwe"}),
        ("the sheet is a PNG", {"text": "a", "out": tmp_path / "hits.jpg"}),
        ("gives no frame: not an image", {"image": text}),
        ("--out would replace a file that is read here", {"image": text, "out": text}),
        ("does not exist", {"image": tmp_path / "none.png"}),
        ("--image takes one picture, but", {"image": study.frames.parent}),
        ("no run 'gone'", {"text": "a", "run": "gone"}),
    ]
    (tmp_path / "two.png").write_text("another")
    for message, options in cases:
        with pytest.raises(SonoError, match=message) as error:
            found(study, **options)
        assert "\n" not in str(error.value)
    nothing = torch.full((1, 24), torch.nan)
    monkeypatch.setattr(lit, "encode_texts", lambda self, texts: nothing)
    with pytest.raises(SonoError, match="features that are not finite"):
        found(study, "femur")


def test_a_mask_needs_its_size_and_masks_to_compare(place: Place) -> None:
    odd = place.base / "odd.png"
    odd.write_bytes(cv2.imencode(".png", np.full((80, 90), 255, np.uint8))[1].tobytes())
    with pytest.raises(SonoError, match="the mask has 80 x 90 pixels, the picture"):
        found(place.study, image=place.raw / "0.png", mask=odd, run="toy")
    full = cv2.imdecode(np.fromfile(place.raw / "0.png", np.uint8), cv2.IMREAD_GRAYSCALE)
    whole = place.base / "whole.png"
    whole.write_bytes(cv2.imencode(".png", np.full_like(full, 255))[1].tobytes())
    place.study.path(MASKS).unlink()
    with pytest.raises(SonoError, match="no accepted or edited masks to compare"):
        found(place.study, image=place.raw / "0.png", mask=whole, run="toy")


def test_a_query_with_a_name_is_not_drawn(place: Place) -> None:
    with pytest.raises(PrivacyError, match=r"search\.png"):
        found(place.study, "the femur of Ada Okonkwo", run="toy")
    assert not (place.study.root / "search.png").exists()


def test_a_study_without_frames_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="no images yet"):
        found(Workspace.create(tmp_path / "empty"), "femur")
