"""A set in the layout of PSFHS: 3 x 256 x 256 MetaImage, label maps, and splits by file name."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import fan
from volume_files import meta_image

from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.annotation.masks import pixels
from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.split_stage import checked_splits
from sono.curation.qc import QcOptions, QcSummary, run_qc

PLANES = '[transperineal]\nregion = "head"\nstructures = ["pubic symphysis", "fetal head"]\n'
SPLITS = ["train"] * 4 + ["val"] + ["test"] * 3
VALUES = {1: "pubic symphysis", 2: "fetal head"}


def labels_of(number: int) -> np.ndarray:
    """1 is the symphysis, 2 the head, in front of it."""
    labels = np.zeros((256, 256), np.uint8)
    cv2.ellipse(labels, (110, 90), (22, 9), 40 + number, 0, 360, 1, -1)
    cv2.ellipse(labels, (135, 150 + number), (45, 35), 10 * number, 0, 360, 2, -1)
    return labels


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Workspace]:
    root = tmp_path / "PSFHS"
    for folder in ("image_mha", "label_mha"):
        (root / folder).mkdir(parents=True)
    for number in range(len(SPLITS)):
        picture = fan(256, 256, seed=number)
        image, label = np.stack([picture] * 3), labels_of(number)
        (root / "image_mha" / f"{3744 + number:05d}.mha").write_bytes(meta_image(image))
        (root / "label_mha" / f"{3744 + number:05d}.mha").write_bytes(meta_image(label))
    study = Workspace.create(tmp_path / "study")
    (study.root / "planes.toml").write_text(PLANES)
    config = study.config_path.read_text().replace(
        "[study]", '[study]\nplanes_file = "planes.toml"'
    )
    splits = '\n[splits]\ncolumn = "split"\nwithout_patient = "file"\n'
    study.config_path.write_text(config + splits)
    return root, study


def read(root: Path, study: Workspace, rows: list[tuple[str, str]]) -> QcSummary:
    table = root.parent / "psfhs.csv"
    lines = [f"{name},transperineal,{split}" for name, split in rows]
    table.write_text("\n".join(["image,plane,split", *lines]) + "\n")
    return run_qc(study, QcOptions(root / "image_mha", table, center="PSFHS"), Engine(jobs=1))


def published() -> list[tuple[str, str]]:
    """The names of the published lists are those of pictures that were made of the files."""
    return [(f"{3744 + number:05d}.png", split) for number, split in enumerate(SPLITS)]


def test_frames_masks_and_splits_are_those_of_the_set(made: tuple[Path, Workspace]) -> None:
    root, study = made
    summary = read(root, study, published())
    assert any("8 stay with their published partition" in remark for remark in summary.remarks)
    assert not any("without_patient" in remark for remark in summary.remarks)
    assert {name: one["frames"] for name, one in checked_splits(study).items() if "frames" in one}[
        "test"
    ] == 3
    names = {row.source_id: Path(row.path.decode()).stem for row in study.sources().itertuples()}
    images = study.accepted_images()
    found = dict(zip(images["source_id"].map(names), images["split"], strict=True))
    assert found == {name.removesuffix(".png"): split for name, split in published()}
    import_masks(study, root / "label_mha", ImportOptions(values=VALUES))
    masks = study.masks()
    assert len(masks) == 16
    by_id = images.set_index("image_id")
    for mask in masks.to_dict("records"):
        frame = by_id.loc[mask["image_id"]]
        label = labels_of(int(names[frame["source_id"]]) - 3744)
        inside = label[
            int(frame["crop_y0"]) : int(frame["crop_y1"]),
            int(frame["crop_x0"]) : int(frame["crop_x1"]),
        ]
        value = 1 + (mask["structure"] == "fetal head")
        assert np.array_equal(pixels(mask), inside == value)


def test_rows_without_a_file_and_files_without_a_row_are_counted(
    made: tuple[Path, Workspace],
) -> None:
    root, study = made
    summary = read(root, study, [*published()[1:], ("09999.png", "test")])
    text = " ".join(summary.remarks)
    assert "1 accepted frame without a record, 1 record without a file" in text
    assert "1 accepted frame has no value in 'split' and is split as usual" in text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*published()[:7], ("03751.png", "hold")], "psfhs.csv:9: column 'split' has"),
        ([*published(), ("03744.png", "test")], "psfhs.csv:10: the image of line 2 again, in test"),
    ],
)
def test_a_split_that_is_none_and_a_file_in_two_are_refused(
    made: tuple[Path, Workspace], rows: list[tuple[str, str]], words: str
) -> None:
    root, study = made
    with pytest.raises(SonoError, match=words):
        read(root, study, rows)


def test_pictures_that_are_nearly_equal_in_two_splits_are_refused(
    made: tuple[Path, Workspace],
) -> None:
    """Patients are not known, so this is the only sign of one patient in two splits."""
    root, study = made
    darker = (0.97 * fan(256, 256, seed=0)).astype(np.uint8)
    (root / "image_mha" / "03751.mha").write_bytes(meta_image(np.stack([darker] * 3)))
    with pytest.raises(SonoError, match="group of duplicates crosses the published partition"):
        read(root, study, published())
