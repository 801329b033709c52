"""Feature files of others, as SonoCLIP's HDF5: zero-shot, neighbors, and what cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from sono.benchmarks.published_features import read_features, report
from sono.curation.core.errors import SonoError

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

NAMES = ("femur", "four chamber", "kidney")


def write(path: Path, **values: object) -> None:
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file[name] = value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """36 images of three classes near the axes; the first femur is near the kidneys."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "features"
    folder.mkdir()
    for number in range(36):
        label = number % 3
        feature = 0.1 * rng.normal(size=8)
        feature[2 if number == 0 else label] += 3.0
        name = np.bytes_(NAMES[label]) if number % 2 else NAMES[label]
        write(folder / f"{number}.h5", image_features=feature, label=label, class_name=name)
    return folder


def texts(path: Path, **changes: np.ndarray) -> Path:
    """Text features of each class: its axis, of two prompts for the first."""
    axes = {name: np.eye(8)[place] for place, name in enumerate(NAMES)}
    axes["femur"] = np.stack([axes["femur"], 5 * axes["femur"]])
    np.savez(path, **(axes | changes))
    return path


def test_zero_shot_and_neighbors_have_the_scores_by_hand(folder: Path, tmp_path: Path) -> None:
    lines = list(report(folder, texts(tmp_path / "texts.npz"), None))
    assert lines[0] == "36 images, 3 classes, 8 numbers each" and lines[1] == "zero-shot:"
    assert lines[2].startswith("  Top-1 macro 97.22 [") and lines[3].startswith(
        "  Top-1 micro 97.22"
    )
    assert "patients" in lines[-1] and "masks" in lines[-1]
    # texts of two classes exchanged: the control
    turned = texts(tmp_path / "turned.npz", kidney=np.eye(8)[1], **{"four chamber": np.eye(8)[2]})
    assert list(report(folder, turned, None))[2].startswith("  Top-1 macro 30.56 [")
    neighbors = list(report(folder, None, None))
    assert neighbors[1].startswith("10 nearest neighbors")
    assert neighbors[2].startswith("  Top-1 macro 97.22 [")


def test_files_that_cannot_be_used_are_counted_with_the_reason(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.h5").write_bytes(b"not HDF5")
    write(folder / "nan.h5", image_features=np.full(8, np.nan), label=0, class_name="femur")
    write(folder / "short.h5", image_features=np.ones(4), label=0, class_name="femur")
    write(folder / "bare.h5", image_features=np.ones(8), label=0)
    lines = list(report(folder, texts(tmp_path / "texts.npz"), None))
    assert lines[0].startswith("36 images") and lines[1].startswith("left out: 1 with ")
    for why in ("not readable as HDF5", "not finite", "4 numbers instead of 8", "no class_name"):
        assert why in lines[1]
    write(folder / "again.h5", image_features=np.ones(8), label=0, class_name="humerus")
    with pytest.raises(SonoError, match="a label has two class names"):
        read_features(folder)


def test_what_cannot_be_scored_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"no file ends in \.h5 or \.hdf5"):
        read_features(tmp_path / "nothing")
    with pytest.raises(SonoError, match="no text features of kidney"):
        known = tmp_path / "two.npz"
        np.savez(known, **{name: np.eye(8)[0] for name in NAMES[:2]})
        list(report(folder, known, None))
    with pytest.raises(SonoError, match="four chamber not finite, or not of 8 numbers"):
        list(report(folder, texts(tmp_path / "x.npz", **{"four chamber": np.ones(3)}), None))
    with pytest.raises(SonoError, match="not a NumPy file of arrays by name"):
        list(report(folder, folder / "0.h5", None))
    for number in range(36):
        if number % 3:
            (folder / f"{number}.h5").unlink()
    with pytest.raises(SonoError, match="all images are of one class"):
        list(report(folder, None, None))
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(SonoError, match="none of 12 files can be used: 12 with not readable"):
        read_features(folder)
