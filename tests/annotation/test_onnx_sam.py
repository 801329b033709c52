"""A promptable model in ONNX: its masks, its embeddings on disk, and files that are refused."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_sam_models import export_pair
from review_studies import HEIGHT, WIDTH, make_review_study

from sono import cli
from sono.annotation.propose import propose_masks
from sono.annotation.proposers import Box, Prompt
from sono.annotation.review.prompter import Prompter
from sono.annotation.sam import SamProposer
from sono.annotation.sam_models.embedding_cache import EmbeddingCache, frame_key
from sono.annotation.sam_models.onnx_sam import OnnxSam
from sono.curation.core.errors import SonoError

ENCODER, DECODER = "tiny.encoder.onnx", "tiny.decoder.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_pair(tmp_path_factory.mktemp("onnx"))


@pytest.fixture
def pair(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "pair"))


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8)


def test_the_mask_lies_where_the_prompt_is(pair: Path) -> None:
    proposer = SamProposer.load(pair)
    for x0, y0, x1, y1 in ((2, 2, 26, 22), (34, 18, 58, 38)):
        middle = ((x0 + x1) // 2, (y0 + y1) // 2)
        of_box = proposer.prompted(picture(), Prompt("femur", box=(x0, y0, x1, y1)))
        of_point = proposer.prompted(picture(), Prompt("femur", point=middle))
        for found in (of_box, of_point):
            assert found.mask.shape == (40, 60) and found.score == pytest.approx(0.9)
            rows, columns = np.nonzero(found.mask)
            assert abs(columns.mean() - middle[0]) < 3 and abs(rows.mean() - middle[1]) < 3
        assert of_box.mask.sum() > 2 * of_point.mask.sum()


def test_the_frame_changes_the_mask(pair: Path) -> None:
    prompt = Prompt("femur", box=(10, 10, 40, 30))
    one, other = (
        SamProposer.load(pair).prompted(gray, prompt)
        for gray in (picture(), picture().T.copy().reshape(40, 60))
    )
    assert not np.array_equal(one.mask, other.mask)


def test_the_hash_covers_both_graphs(pair: Path) -> None:
    before = SamProposer.load(pair).model_hash
    for name in (ENCODER, DECODER):
        model = onnx.load(str(pair / name))
        model.doc_string = "changed"
        onnx.save(model, str(pair / name))
        assert SamProposer.load(pair).model_hash != before
        before = SamProposer.load(pair).model_hash


def test_propose_and_the_review_take_the_folder(pair: Path, tmp_path: Path) -> None:
    study = make_review_study(tmp_path)
    before = study.masks()
    summary = propose_masks(study, pair)
    assert summary.source == "sam" and summary.proposed
    masks = study.masks()
    made = masks[masks["source"] == "sam"]
    assert len(made) and set(made["model_hash"]) == {SamProposer.load(pair).model_hash}
    assert set(made["image_id"]) <= set(before["image_id"])
    frame = np.full((HEIGHT, WIDTH), 90, np.uint8)
    found = Prompter.load(study, pair).propose(frame, "femur", None, (30, 20))
    assert found.mask.any()


def test_an_embedding_is_read_from_disk_and_gives_the_same_mask(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EmbeddingCache(tmp_path / "cache", 10**9)
    boxes = [Box("femur", 10, 10, 40, 30)]
    first = SamProposer.load(pair, cache=cache).propose(picture(), None, None, boxes)
    monkeypatch.setattr(OnnxSam, "encode", lambda *given: pytest.fail("encoded again"))
    second = SamProposer.load(pair, cache=cache).propose(picture(), None, None, boxes)
    assert np.array_equal(first[0].mask, second[0].mask) and first[0].score == second[0].score


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_embedding_is_made_again(pair: Path, tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path / "cache", 10**9)
    prompt = Prompt("femur", box=(10, 10, 40, 30))
    first = SamProposer.load(pair, cache=cache).prompted(picture(), prompt)
    (path,) = (tmp_path / "cache").glob("*/*.safetensors")
    content = bytearray(path.read_bytes())
    content[-40] ^= 255
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        damaged = {"cut": content[:-9], "flipped": content, "empty": b""}
        path.write_bytes(bytes(damaged[damage]))
    again = SamProposer.load(pair, cache=cache).prompted(picture(), prompt)
    assert np.array_equal(first.mask, again.mask)


def test_the_embeddings_stay_below_their_limit(tmp_path: Path) -> None:
    one = {"found": np.zeros((1, 1000), np.float32)}
    cache = EmbeddingCache(tmp_path, 10_000)
    for name in "abcd":
        cache.write("model", name, one)
        assert cache.read("model", name)
    kept = sorted(path.stem for path in tmp_path.glob("*/*.safetensors"))
    assert len(kept) == 2 and "d" in kept
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 10_000
    EmbeddingCache(tmp_path, 0).write("model", "e", one)
    assert sorted(path.stem for path in tmp_path.glob("*/*.safetensors")) == kept


def test_a_full_disk_does_not_stop_the_work(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file in place of the folder")
    proposer = SamProposer.load(pair, cache=EmbeddingCache(tmp_path / "cache", 10**9))
    for gray in (picture(), picture()[::-1].copy()):
        assert proposer.prompted(gray, Prompt("femur", point=(20, 20))).score > 0
    assert capsys.readouterr().err.count("cannot keep") == 1


def test_frames_of_other_sizes_have_other_keys() -> None:
    assert frame_key(np.zeros((4, 6), np.uint8)) != frame_key(np.zeros((6, 4), np.uint8))


def refused(pair: Path) -> str:
    with pytest.raises(SonoError) as caught:
        SamProposer.load(pair).prompted(picture(), Prompt("femur", point=(20, 20)))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


def edited(path: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(str(path))
    change(model.graph)
    onnx.save(model, str(path))


def renamed(graph: onnx.GraphProto, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


@pytest.mark.parametrize("name", [ENCODER, DECODER])
def test_a_damaged_or_missing_graph_is_refused(pair: Path, name: str) -> None:
    content = (pair / name).read_bytes()
    for damaged in (b"", b"no graph at all", content[: len(content) // 2]):
        (pair / name).write_bytes(damaged)
        assert name in refused(pair)
    (pair / name).unlink()
    assert "no *" in refused(pair)


def test_two_encoders_are_refused(pair: Path) -> None:
    shutil.copy(pair / ENCODER, pair / "other_encoder.onnx")
    assert "several graphs for the encoder (other_encoder.onnx, tiny.encoder.onnx)" in refused(pair)


def test_one_graph_of_the_two_is_refused(pair: Path) -> None:
    assert "one graph of two" in refused(pair / ENCODER)


def test_other_names_are_refused(pair: Path) -> None:
    edited(pair / DECODER, lambda graph: renamed(graph, "image_embed", "features"))
    assert "its input features" in refused(pair) and "no output of" in refused(pair)


@pytest.mark.parametrize("name", ["point_labels", "iou_predictions"])
def test_a_decoder_without_prompts_or_qualities_is_refused(pair: Path, name: str) -> None:
    edited(pair / DECODER, lambda graph: renamed(graph, name, "other"))
    assert f"has no {name}" in refused(pair)


def test_other_sizes_are_refused(pair: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        value = next(one for one in graph.input if one.name == "image_embed")
        value.type.tensor_type.shape.dim[1].dim_value = 16

    edited(pair / DECODER, change)
    assert DECODER in refused(pair)


def test_an_encoder_of_another_input_is_refused(pair: Path) -> None:
    shutil.copy(pair / DECODER, pair / ENCODER)
    assert "not one image" in refused(pair)


def external(path: Path, location: str) -> None:
    """Move the tensors of a graph to a data file, and let the graph say that it is elsewhere."""
    model = onnx.load(str(path))
    onnx.save(
        model, str(path), save_as_external_data=True, location="data.bin", size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def test_data_in_the_folder_is_read_and_counts_in_the_hash(pair: Path) -> None:
    before = SamProposer.load(pair).prompted(picture(), Prompt("femur", point=(20, 20)))
    external(pair / ENCODER, "data.bin")
    proposer = SamProposer.load(pair)
    found = proposer.prompted(picture(), Prompt("femur", point=(20, 20)))
    assert np.array_equal(found.mask, before.mask)
    content = bytearray((pair / "data.bin").read_bytes())
    content[0] ^= 1
    (pair / "data.bin").write_bytes(bytes(content))
    assert SamProposer.load(pair).model_hash != proposer.model_hash


@pytest.mark.parametrize("place", ["a\0b", "x" * 5000])
def test_a_damaged_name_of_a_data_file_is_one_line(pair: Path, place: str) -> None:
    external(pair / ENCODER, place)
    text = refused(pair)
    assert ENCODER in text and "the name of its data file is damaged" in text


@pytest.mark.parametrize("kind", ["above", "absolute", "link", "missing"])
def test_data_outside_of_the_folder_is_not_read(pair: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "secret.bin"
    places = {"above": "../secret.bin", "absolute": str(outside)}
    external(pair / ENCODER, places.get(kind, "linked.bin"))
    (pair / "data.bin").rename(outside)
    if kind == "link":
        (pair / "linked.bin").symlink_to(outside)
    text = refused(pair)
    assert ENCODER in text and ("missing" if kind == "missing" else "outside") in text


def test_values_that_are_not_finite_are_refused(pair: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.ndim == 4:
                broken = onnx.numpy_helper.from_array(values * np.nan, tensor.name)
                tensor.CopyFrom(broken)

    edited(pair / ENCODER, change)
    assert "not finite" in refused(pair)


def test_the_command_ends_with_one_line(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study = make_review_study(tmp_path)
    (pair / DECODER).write_bytes(b"broken")
    words = ["sono", "masks", "propose", "--checkpoint", str(pair), "-w", str(study.root)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    errors = capfd.readouterr().err
    assert end.value.code == 1 and "damaged or no ONNX graph" in " ".join(errors.split())
    assert "Traceback" not in errors
