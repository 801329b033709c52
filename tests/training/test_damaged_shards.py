"""Every defect of a folder of shards gives one message with the place.

Nobody is in the shards without being listed.
"""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png
from sono.curation.core.workspace import Workspace
from sono.templates.loader import load_templates
from sono.training.data.read_pairs import load_pairs
from sono.training.data.shard_records import ShardOrigin
from sono.training.data.shards import Shards, read_shard, write_shards

Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def whole(study: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = load_pairs(
        study, study.accepted_images(), ("accepted",), load_templates("standard"), 32
    )
    return write_shards(
        pairs, tmp_path_factory.mktemp("damaged") / "shards", ShardOrigin(template="standard")
    ).folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def read(folder: Path) -> int:
    return sum(1 for _ in read_shard(Shards.open(folder), 0))


def change_members(folder: Path, suffix: str, change: Change) -> None:
    with tarfile.open(folder / "000000.tar") as shard:
        # all files
        members = [(one.name, shard.extractfile(one).read()) for one in shard]  # type: ignore[union-attr]
    with tarfile.open(folder / "000000.tar", "w") as shard:
        for name, before in members:
            content = change(before) if name.endswith(suffix) else before
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


def told(**changes: Any) -> Change:
    return lambda content: json.dumps(json.loads(content) | changes).encode()


def runs(change: Change) -> Change:
    def changed(content: bytes) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, change(np.load(io.BytesIO(content))))
        return buffer.getvalue()

    return changed


def change_index(folder: Path, section: str, **changes: Any) -> None:
    index = json.loads((folder / "index.json").read_text())
    index[section] |= changes
    (folder / "index.json").write_text(json.dumps(index))


DAMAGED = {
    "a larger frame": (".png", lambda _: encode_png(np.zeros((64, 64), np.uint8))),
    "a wrong byte of a frame": (
        ".png",
        lambda content: content[:60] + bytes([content[60] ^ 1]) + content[61:],
    ),
    "runs too long": (".npy", runs(lambda counts: counts * 3)),
    "negative runs": (".npy", runs(lambda counts: -counts.astype(np.int64))),
    "runs of gigabytes": (".npy", runs(lambda counts: np.full_like(counts, 2**31))),
    "an open bracket": (".npy", lambda content: content.replace(b"(", b" ", 1)),
    "no caption": (".json", told(caption=None)),
    "prompts that are numbers": (".json", told(prompts=[1, 2])),
    "a grade there is not": (
        ".json",
        lambda content: content.replace(b'"grade": 0', b'"grade": 9'),
    ),
    "brackets without end": (".json", lambda _: b"[" * 100_000),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_pair_is_one_line(
    kind: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert read(folder) == 40
    change_members(folder, *DAMAGED[kind])
    with pytest.raises(SonoError, match=r"000000\.tar, \w+: damaged; copy") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "change", [{"patient": "w99"}, {"center": "C"}, {"plane": "brain"}, {"path": ["a", "b"]}]
)
def test_a_pair_that_is_not_as_the_index_says_is_refused(
    change: dict[str, Any], folder: Path
) -> None:
    change_members(folder, ".json", told(**change))
    with pytest.raises(SonoError, match=r"000000\.tar, \w+: does not match index\.json"):
        read(folder)


@pytest.mark.parametrize("name", ["patients", "centers"])
def test_an_index_that_conceals_patients_or_centers_is_found_out(name: str, folder: Path) -> None:
    change_index(folder, "contents", **{name: []})
    with pytest.raises(SonoError, match=r"000000\.tar, \w+: does not match index\.json"):
        read(folder)


def test_an_index_that_lists_another_frame_is_found_out(folder: Path) -> None:
    names = list(Shards.open(folder).contents.image_ids)
    change_index(folder, "contents", image_ids=[*names[1:], "another"])
    with pytest.raises(SonoError, match="does not match index"):
        read(folder)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("contents", {"image_ids": []}),
        ("contents", {"pixels": [float("nan"), 1]}),
        ("contents", {"side": -1}),
        ("shards", {"000000.tar": "many"}),
        ("shards", {"000000.tar": -5}),
        ("shards", {"000000.tar": 500}),
    ],
)
def test_an_index_that_cannot_be_is_no_index(
    section: str, change: dict[str, Any], folder: Path
) -> None:
    change_index(folder, section, **change)
    with pytest.raises(SonoError, match=r"index\.json is missing or damaged"):
        Shards.open(folder)


def test_brackets_without_end_are_no_index(folder: Path) -> None:
    (folder / "index.json").write_text("[" * 100_000)
    with pytest.raises(SonoError, match=r"index\.json is missing or damaged"):
        Shards.open(folder)
