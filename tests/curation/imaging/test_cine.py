"""Frame selection: what is looked at, what repeats an earlier frame, and the rows that tell it."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import write_dicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from sono.curation.core.config import override
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import Row
from sono.curation.imaging.analysis import AnalysisTask, analyze
from sono.curation.imaging.cine import Distinct, chosen
from sono.curation.imaging.quality import QualityConfig
from sono.curation.readers.dicom import read_dicom
from sono.curation.readers.dicom_pixels import StoredFrames

Gray = NDArray[np.uint8]


@pytest.fixture
def picture() -> Gray:
    """A fan of smooth blobs [240, 320] on black."""
    random = np.random.default_rng(3)
    blobs = cv2.GaussianBlur(random.normal(0, 1, (240, 320)).astype(np.float32), (0, 0), 4)
    down, across = np.mgrid[0:240, 0:320]
    fan = (np.abs(across - 160) < 20 + 0.5 * down) & (down > 15) & (down < 220)
    grain = random.normal(0, 25, (240, 320))
    return np.asarray(np.where(fan, np.clip(90 + 500 * blobs + grain, 20, 255), 0), np.uint8)


def cine(*frames: Gray) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Modality, made.NumberOfFrames = "US", len(frames)
    made.Rows, made.Columns = frames[0].shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = b"".join(frame.tobytes() for frame in frames)
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., list[Row]]:
    def analyzed(content: bytes | Path, frames: str = "distinct") -> list[Row]:
        path = content if isinstance(content, Path) else tmp_path / "cine.dcm"
        if isinstance(content, bytes):
            path.write_bytes(content)
        quality = QualityConfig.model_validate({"cine": {"frames": frames}})
        return analyze(
            AnalysisTask(b"/", b"key", tmp_path / "f", tmp_path / "q", quality), str(path).encode()
        )

    return analyzed


def moved(picture: Gray, share: float) -> Gray:
    shift = np.array([[1, 0, share * picture.shape[1]], [0, 1, 0]], np.float32)
    return np.asarray(
        cv2.warpAffine(picture, shift, (picture.shape[1], picture.shape[0])), np.uint8
    )


def test_a_choice_gives_its_indices() -> None:
    assert list(chosen("all", 4)) == list(chosen("distinct", 4)) == [0, 1, 2, 3]
    assert list(chosen("every:3", 8)) == [0, 3, 6]
    assert list(chosen("first", 5)) == [0] and list(chosen("first", 0)) == []


@pytest.mark.parametrize("wrong", ["every:0", "every:", "every:x", "last", ""])
def test_an_unknown_choice_is_refused(wrong: str) -> None:
    with pytest.raises(SonoError, match="frames"):
        override(QualityConfig().cine, frames=wrong)


def test_change_is_zero_for_the_same_picture_one_for_none_and_two_for_its_negative(
    picture: Gray,
) -> None:
    whole = Distinct.of(0, picture, None)
    assert whole.change(picture) == pytest.approx(0)
    assert whole.change(picture // 2) == pytest.approx(0, abs=0.001)  # gain is no movement
    assert whole.change(np.full_like(picture, 7)) == 1
    assert whole.change(255 - picture) == pytest.approx(2, abs=0.001)
    assert Distinct.of(0, np.zeros_like(picture), None).change(np.zeros_like(picture)) == 0


def test_noise_repeats_and_movement_does_not(picture: Gray) -> None:
    noise = np.random.default_rng(0).normal(0, 8, picture.shape)
    limit = QualityConfig().cine.min_change
    first = Distinct.of(0, picture, None)
    assert first.change(np.asarray(np.clip(picture + noise, 0, 255), np.uint8)) < limit / 5
    assert first.change(moved(picture, 0.03)) > limit


def test_a_slow_drift_is_measured_from_the_last_distinct_frame(
    picture: Gray, rows: Callable[..., list[Row]]
) -> None:
    drift = [moved(picture, 0.004 * step) for step in range(8)]
    found = rows(cine(*drift))
    assert [row["frame"] for row in found] == list(range(8)) and {
        row["source_frames"] for row in found
    } == {8}
    stands = [row.get("repeats_frame") for row in found]
    assert stands[0] is None and stands[1] == 0
    assert 1 < stands.count(None) < 8
    assert all(stand is None or stands[stand] is None for stand in stands)


def test_a_repeat_is_rejected_and_not_stored(
    picture: Gray, rows: Callable[..., list[Row]], tmp_path: Path
) -> None:
    found = rows(cine(picture, picture, moved(picture, 0.1), picture))
    assert [row.get("repeats_frame") for row in found] == [None, 0, None, None]
    assert (
        found[1]["status"] == "rejected"
        and found[1]["reasons"] == ["cine_repeat"]
        and "file" not in found[1]
    )
    assert found[1]["image_id"] == found[0]["image_id"]
    assert len([file for folder in "fq" for file in (tmp_path / folder).rglob("*.png")]) == 2


@pytest.mark.parametrize(
    ("choice", "taken"), [("all", [0, 1, 2, 3, 4]), ("every:2", [0, 2, 4]), ("first", [0])]
)
def test_what_is_left_out_is_counted(
    picture: Gray, rows: Callable[..., list[Row]], choice: str, taken: list[int]
) -> None:
    found = rows(cine(*[picture] * 5), choice)
    assert [row["frame"] for row in found] == taken
    assert {row["source_frames"] for row in found} == {5}
    assert all("cine_repeat" not in row["reasons"] for row in found)


def test_frames_are_decoded_one_by_one(picture: Gray, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_dicom(cine(*[picture] * 400))
    taken = []
    plain = StoredFrames.__getitem__
    monkeypatch.setattr(
        StoredFrames, "__getitem__", lambda self, index: taken.append(index) or plain(self, index)
    )
    assert source.frames[399].index == 399 and source.frames[-1].index == 399
    assert taken == [399, -1] and len(source.frames) == 400


def test_a_beating_heart_keeps_a_third_of_its_frames(
    shared_data: Path, rows: Callable[..., list[Row]]
) -> None:
    found = rows(shared_data / "dicom" / "examples_ybr_color.dcm")
    kept = [row["frame"] for row in found if row.get("repeats_frame") is None]
    assert len(found) == 30 and 8 <= len(kept) <= 14
    two = rows(shared_data / "dicom" / "OBXXXX1A_rle_2frame.dcm")
    assert [row.get("repeats_frame") for row in two] == [None, None]


@pytest.mark.parametrize(
    ("written", "step"),
    [("40", 0.04), ("33.333", 0.033333), ("0", None), ("", None), ("1e9", None)],
)
def test_the_time_of_a_frame_is_that_of_the_header(
    written: str, step: float | None, tmp_path: Path, picture: Gray
) -> None:
    write_dicom(tmp_path / "cine.dcm", np.stack([picture] * 3), NumberOfFrames=3, FrameTime=written)
    frames = read_dicom((tmp_path / "cine.dcm").read_bytes()).frames
    times = [frame.seconds for frame in frames]
    assert times == ([None] * 3 if step is None else pytest.approx([0, step, 2 * step], abs=2e-6))
