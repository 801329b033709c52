import errno
import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from sono.curation.core.atomic import write_bytes
from sono.curation.core.console import stderr_console
from sono.curation.core.frame_files import encode_png, frame_file, read_stored
from sono.curation.core.geometry import letterbox, letterbox_mask
from sono.curation.core.rle import decode
from sono.curation.core.tables import IMAGES, rows_of
from sono.curation.core.workspace import Workspace
from sono.training.data import frame_cache
from sono.training.data.frame_cache import FrameRows, mask_of, packed_frames, packed_masks, runs_of

SIDE = 32


def files_of(workspace: Workspace) -> list[str]:
    return [str(file) for file in workspace.accepted_images()["file"]]


def read_frames(workspace: Workspace) -> NDArray[np.uint8]:
    return np.stack(
        [letterbox(read_stored(workspace.root / file), SIDE) for file in files_of(workspace)]
    )


def packed(workspace: Workspace) -> FrameRows:
    frames = packed_frames(workspace, files_of(workspace), SIDE)
    assert isinstance(frames, FrameRows)
    return frames


def stored(workspace: Workspace, name: str = "frames") -> Path:
    return workspace.root / "packed" / str(SIDE) / f"{name}.safetensors"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that were written anew."""
    paths: list[Path] = []
    write = frame_cache.write_arrays

    def watched(path: Path, *rest: object) -> None:
        paths.append(path)
        write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(frame_cache, "write_arrays", watched)
    return paths


def test_the_store_holds_the_very_bytes_of_the_letterboxed_frames(own_study: Workspace) -> None:
    expected = read_frames(own_study)
    frames = packed(own_study)
    assert frames.shape == (40, SIDE, SIDE)
    assert np.array_equal(frames[:], expected)
    assert np.array_equal(frames[[7, 0, 7]], expected[[7, 0, 7]])
    assert np.array_equal(frames[3], expected[3])
    assert frames.mean() == pytest.approx(float(expected.mean()), abs=1e-12)
    assert frames.std() == pytest.approx(float(expected.std()), abs=1e-12)
    some = packed_frames(own_study, files_of(own_study)[5:9], SIDE)
    assert np.array_equal(some[:], expected[5:9])


def test_the_store_is_written_once_and_any_tool_can_read_it(
    own_study: Workspace, written: list[Path]
) -> None:
    packed(own_study)
    packed(own_study)
    assert written == [stored(own_study)]
    ours = {file: row for row, file in enumerate(sorted(files_of(own_study)))}
    frames = load_file(stored(own_study))["frames"]
    assert np.array_equal(
        frames[[ours[file] for file in files_of(own_study)]], read_frames(own_study)
    )


def test_masks_come_back_as_they_were_letterboxed(
    own_study: Workspace, written: list[Path]
) -> None:
    masks = list(rows_of(own_study.masks()))
    for _ in range(2):
        runs = packed_masks(own_study, masks, SIDE)
        for mask in masks:
            expected = letterbox_mask(decode(mask["counts"], mask["height"], mask["width"]), SIDE)
            assert np.array_equal(mask_of(runs[mask["mask_id"]], SIDE), expected)
    assert written == [stored(own_study, "masks")]
    assert packed_masks(own_study, [], SIDE) == {}


@pytest.mark.parametrize("text", ["0000", "1111", "0110", "1001", "0101", "1010"])
def test_run_lengths_go_along_the_rows_and_begin_with_zeros(text: str) -> None:
    mask = np.array([letter == "1" for letter in text]).reshape(2, 2)
    assert np.array_equal(mask_of(runs_of(mask), 2), mask)
    assert int(runs_of(mask)[1::2].sum()) == text.count("1")
    assert runs_of(np.zeros((2, 2), np.bool_)).tolist() == [4]


def test_a_mask_that_was_edited_or_a_frame_that_went_makes_a_new_store(
    own_study: Workspace, written: list[Path]
) -> None:
    masks = list(rows_of(own_study.masks()))
    packed_masks(own_study, masks, SIDE)
    edited = masks[0] | {"counts": masks[1]["counts"]}
    runs = packed_masks(own_study, [edited, *masks[1:]], SIDE)
    assert np.array_equal(runs[masks[0]["mask_id"]], runs[masks[1]["mask_id"]])
    packed(own_study)
    images = own_study.images()
    images.loc[0, "status"] = "rejected"
    own_study.write(IMAGES, images)
    assert packed(own_study).shape[0] == 39
    assert [path.stem for path in written] == ["masks", "masks", "frames", "frames"]


@pytest.mark.parametrize("place", [3, 60, 5000, -2])
def test_a_byte_that_changed_makes_a_new_store(
    own_study: Workspace, written: list[Path], place: int
) -> None:
    packed(own_study)
    content = bytearray(stored(own_study).read_bytes())
    content[place] ^= 64
    stored(own_study).write_bytes(content)
    assert np.array_equal(packed(own_study)[:], read_frames(own_study))
    assert len(written) == 2


@pytest.mark.parametrize("size", [0, 5, 200, 20000])
def test_a_store_that_was_cut_short_is_made_anew(
    own_study: Workspace, written: list[Path], size: int
) -> None:
    packed(own_study)
    stored(own_study).write_bytes(stored(own_study).read_bytes()[:size])
    assert np.array_equal(packed(own_study)[:], read_frames(own_study))
    assert len(written) == 2


def test_what_a_killed_run_left_is_removed(own_study: Workspace) -> None:
    stored(own_study).parent.mkdir(parents=True)
    leftover = stored(own_study).parent / ".tmp-abc"
    leftover.write_bytes(b"half")
    packed(own_study)
    assert not leftover.exists()
    assert sorted(path.name for path in stored(own_study).parent.iterdir()) == [
        ".lock",
        "frames.safetensors",
    ]


def test_a_full_disk_is_one_line_and_the_frames_are_read(
    own_study: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(frame_cache, "write_arrays", full)
    with stderr_console.capture() as told:
        frames = packed_frames(own_study, files_of(own_study), SIDE)
    assert np.array_equal(frames[:], read_frames(own_study))
    assert told.get().count("\n") == 1
    assert "No space left on device" in told.get()
    assert len(packed_masks(own_study, list(rows_of(own_study.masks())), SIDE)) == 40


def test_a_file_that_no_accepted_frame_has_is_read_from_the_frames(own_study: Workspace) -> None:
    gray = np.full((SIDE, SIDE), 9, np.uint8)
    extra = frame_file("extra", gray)
    write_bytes(own_study.root / extra, encode_png(gray))
    assert packed_frames(own_study, [extra], SIDE).tolist() == np.full((1, SIDE, SIDE), 9).tolist()  # type: ignore[union-attr]
    assert packed_frames(own_study, [], SIDE).shape == (0, SIDE, SIDE)


def fetch(frames: FrameRows, row: int) -> int:
    return int(frames[row].sum())


def test_a_worker_process_maps_the_same_file(own_study: Workspace) -> None:
    frames = packed(own_study)
    assert len(pickle.dumps(frames)) < 2000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(fetch, (frames, 11)) == int(read_frames(own_study)[11].sum())
