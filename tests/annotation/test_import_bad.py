"""What is no data set of ours, or a damaged one, is one line, and nothing of it is stored."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.annotation.release.import_dataset import import_dataset
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png
from sono.curation.core.rle import encode
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace

Change = Callable[[dict[str, Any]], object]
PICTURE = encode_png(np.random.default_rng(0).integers(9, 200, (70, 80), np.uint8))


def sample(number: int = 1) -> dict[str, Any]:
    return {
        "image_id": f"{number:016x}", "plane": "femur", "ga_days": 150, "findings": ["short femur"],
        "captions": ["A femur."], "masks": [],
    }  # fmt: skip


def shard(folder: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def refused(folder: Path, tmp_path: Path) -> str:
    study = Workspace.create(tmp_path / "study")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SonoError) as error:
        import_dataset(study, folder)
    assert not study.path(IMAGES).exists()
    new = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert new <= {"study", "study.vault"}
    return str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("image_id", "../../../escape", "is no id of sono"),
        ("image_id", "MUELLER_ANNA_19800101", "is no id of sono"),
        ("image_id", ["x"], "is no id of sono"),
        ("ga_days", 150.7, "ga_days is 150.7, which is not a whole number"),
        ("ga_days", 10**30, "is not a whole number"),
        ("ga_days", "150", "is not a whole number"),
        (
            "findings",
            ["No short femur"],
            "unknown finding 'No short femur'; did you mean 'short femur'",
        ),
        ("split", "test", "its split is 'test', but it is in the files of 'train'"),
        ("held_out", "yes", "held_out is 'yes', which is neither true nor false"),
        ("captions", ["femur " * 2000], "a caption of 12000 characters"),
        ("findings", "short femur", "findings is 'short femur', which is not a list of texts"),
        ("captions", "A femur.", "captions are no list"),
        ("captions", [7], "captions are no list of texts"),
        ("plane", {"a": 1}, "is not a text"),
        ("masks", None, "not the fields of a sample"),
        ("masks", [{"segmentation": {"size": [1 << 20, 1 << 20], "counts": "1"}}], "a mask of"),
    ],
)
def test_a_value_of_another_kind_is_named(
    field: str, value: object, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    fields = json.dumps(sample() | {field: value}).encode()
    shard(folder, {"a.png": PICTURE, "a.json": fields})
    assert said in refused(folder, tmp_path)


def test_two_masks_with_one_id_are_not_one(tmp_path: Path) -> None:
    mask = np.zeros((70, 80), np.bool_)
    mask[3:9, 3:9] = True
    runs = {"size": [70, 80], "counts": encode(mask)}
    given = {"mask_id": "a" * 16, "structure": "femur", "captions": [], "segmentation": runs}
    folder = tmp_path / "given"
    folder.mkdir()
    members = {}
    for number in (1, 2):
        fields = sample(number) | {"masks": [given]}
        members |= {f"{number}.png": PICTURE, f"{number}.json": json.dumps(fields).encode()}
    shard(folder, members)
    assert f"two masks have the id {'a' * 16}" in refused(folder, tmp_path)
    shard(folder, {"a.png": PICTURE, "a.json": json.dumps(
        sample() | {"masks": [given | {"structure": 5}]}).encode()})  # fmt: skip
    assert "a structure is 5, not a text" in refused(folder, tmp_path / "number")


@pytest.mark.parametrize(
    "name", ["train-00000-of-00002", "train-00001-of-00002", "test-00002-of-00003"]
)
def test_a_lost_part_of_a_split_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    (folder / "data").mkdir(parents=True)
    row = sample() | {"image": {"bytes": PICTURE, "path": None}}
    pq.write_table(pa.Table.from_pylist([row]), folder / "data" / f"{name}.parquet")
    split = name.partition("-")[0]
    assert f"of the split '{split}', which has at least " in refused(folder, tmp_path)


def test_a_file_without_a_checksum_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / ".cache").write_text("x")
    shard(folder, {"a.png": PICTURE, "a.json": json.dumps(sample()).encode()})
    (folder / "SHA256SUMS").write_text("")
    assert "train-000000.tar: not listed in SHA256SUMS" in refused(folder, tmp_path)


def test_files_of_two_samples_are_not_one(tmp_path: Path) -> None:
    fields = {name: json.dumps(sample(name)).encode() for name in (1, 2)}
    given = {
        "mixed": {"a.png": PICTURE, "b.json": fields[2]},
        "lost": {"a.png": PICTURE, "b.json": fields[2], "b.png": PICTURE},
        "cut": {"a.png": PICTURE, "a.json": fields[1], "b.png": PICTURE},
        "above": {"../../a.png": PICTURE, "../../a.json": fields[1]},
        "deep": {"a.png": PICTURE, "a.json": b"[" * 100_000},
    }
    for name, members in given.items():
        folder = tmp_path / name / "given"
        folder.mkdir(parents=True)
        shard(folder, members)
        assert "train-000000.tar" in refused(folder, tmp_path / name)


@pytest.mark.parametrize("plane", [-1, 2, 0.5])
def test_a_class_without_a_name_is_no_plane(plane: float, tmp_path: Path) -> None:
    row = sample() | {"plane": plane, "image": {"bytes": PICTURE, "path": None}}
    described = {"info": {"features": {"plane": {"names": ["femur", "eye"]}}}}
    table = pa.Table.from_pylist([row])
    table = table.replace_schema_metadata({"huggingface": json.dumps(described)})
    folder = tmp_path / "given"
    (folder / "data").mkdir(parents=True)
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
    assert "is no class of this table" in refused(folder, tmp_path)


def test_a_pipe_or_an_empty_folder_does_not_wait(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    (folder / "data").mkdir(parents=True)
    os.mkfifo(folder / "data" / "train-0.parquet")
    assert "pipe" in refused(folder, tmp_path)
    other = tmp_path / "b" / "given"
    other.mkdir(parents=True)
    shard(other, {})
    assert "has no sample" in refused(other, tmp_path / "b")


def coco(folder: Path, change: Change = lambda content: None, name: str = "captions_train") -> None:
    """A data set of one frame with one caption, after `change` to its JSON."""
    for place in ("images", "annotations"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    values = sample() | {"id": 1, "file_name": f"{1:016x}.png"}
    (folder / "images" / values["file_name"]).write_bytes(PICTURE)
    caption = {"id": 1, "image_id": 1, "caption": "A femur."}
    content = {"images": [values], "annotations": [caption]}
    change(content)
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))


def _of_image(**values: object) -> Change:
    return lambda content: content["images"][0].update(values)


def _of_annotation(**values: object) -> Change:
    return lambda content: content["annotations"][0].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_of_image(file_name="../../escape.png", image_id=None), "leads out of"),
        (_of_image(file_name="other.png"), "'other.png' is not that of its image_id"),
        (_of_image(file_name="lost.png", image_id=None), "No such file"),
        (_of_image(file_name=7), "file_name is no text"),
        (_of_image(id="x"), "image id 'x' twice, or not a number"),
        (lambda content: content["images"].append(content["images"][0]), "twice"),
        (_of_image(plane="nowhere"), "plane 'nowhere'"),
        (_of_image(ga_days="150"), "is not a whole number"),
        (_of_annotation(image_id=2), "is of image 2, which is not listed"),
        (_of_annotation(caption=None), "no list of texts"),
        (lambda content: content.pop("images"), "not the fields of COCO (KeyError: 'images'"),
        (lambda content: content.update(annotations=3), "not the fields of COCO"),
    ],
)
def test_damaged_coco_is_one_line(change: Change, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    coco(folder, change)
    message = refused(folder, tmp_path)
    assert said in message and "\n" not in message


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([[1, 1, 5, 1, 5, 5]], "is a polygon, which is not read here"),
        (
            {"size": [8, 9], "counts": encode(np.ones((8, 9), np.bool_))},
            "masks are never turned or scaled",
        ),
        ({"size": [70, 80], "counts": "~~~"}, "image 1: not the fields of COCO (ValueError: "),
        ({"size": [1 << 20, 1 << 20], "counts": "1"}, "a mask of"),
    ],
)
def test_a_damaged_mask_of_coco_is_one_line(
    segmentation: object, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    coco(folder)

    def masks(content: dict[str, Any]) -> None:
        mask = {"id": 4, "image_id": 1, "category_id": 1, "segmentation": segmentation}
        content.update(annotations=[mask], categories=[{"id": 1, "name": "femur"}])

    coco(folder, masks, "instances_train")
    message = refused(folder, tmp_path)
    assert said in message and "\n" not in message


def test_two_files_of_coco_that_differ_or_are_cut_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "given"
    coco(folder)
    coco(folder, _of_image(ga_days=151), "instances_train")
    assert "image 1 is another one in the file of captions" in refused(folder, tmp_path / "a")
    folder = tmp_path / "b" / "given"
    coco(folder)
    file = folder / "annotations" / "captions_train.json"
    file.write_text(file.read_text()[:-9])
    assert "captions_train.json: damaged" in refused(folder, tmp_path / "b")
    folder = tmp_path / "c" / "given"
    coco(folder, name="captions_elsewhere")
    assert "unknown split 'elsewhere'" in refused(folder, tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filepath\ttitle\n../out.png\tA femur.\n", "leads out of"),
        ("filepath\ttitle\nlost.png\tA femur.\n", "No such file"),
        ("filepath\ttitle\na.png\n", "train.csv:2: not a path and a caption"),
        ("filepath\ttitle\na.png\tA femur.\tmore\n", "train.csv:2: not a path and a caption"),
        ('filepath\ttitle\na.png\t"A fem', "not a readable table"),
        ("image,plane\na.png,femur\n", "a table of open_clip has filepath and title"),
        ("", "a table of open_clip has filepath and title"),
        ("filepath\ttitle\n", "has no sample"),
    ],
)
def test_a_damaged_table_of_open_clip_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "a.png").write_bytes(PICTURE)
    (folder / "train.csv").write_text(text)
    message = refused(folder, tmp_path)
    assert said in message and "\n" not in message


def test_two_categories_of_coco_with_one_id_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    names = [{"id": 1, "name": name} for name in ("femur", "tibia")]
    coco(folder, lambda content: content.update(categories=names))
    assert "two categories have the id 1" in refused(folder, tmp_path)


def test_a_table_of_open_clip_with_commas_and_names_of_its_own_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "case 7.png").write_bytes(PICTURE)
    (folder / "val.csv").write_text('filepath,title\ncase 7.png,"A femur, long."\ncase 7.png,B.\n')
    study = Workspace.create(tmp_path / "study")
    assert import_dataset(study, folder).frames == {"validation": 1}
    assert study.captions()["text"].tolist() == ["A femur, long.", "B."]
    assert "case" not in str(study.images().to_dict("records"))
