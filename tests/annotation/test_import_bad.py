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
