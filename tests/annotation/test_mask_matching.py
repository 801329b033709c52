"""A name means one frame for sure, or none: folders, endings and prefixes of tools, ids."""

import json
import posixpath
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mask_studies import SOURCE, coco_file, drawn, frame_row, make_study, png

from sono.annotation.exchange.foreign_masks import Found, Picture
from sono.annotation.import_options import ImportOptions
from sono.annotation.import_summary import REFUSALS
from sono.annotation.mask_import import import_masks, match_all
from sono.annotation.mask_matching import FrameFinder, NoMatch
from sono.annotation.picture_names import readings, stem_of
from sono.annotation.source_files import SourceFile
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import read_table, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

RING = [[8, 10, 30, 10, 30, 16, 8, 16]]
FEMUR = ImportOptions(structure="femur")


def study(folder: Path, paths: list[str], root: str = "/raw", **changes: Any) -> Workspace:
    """A study of files below `root`, one frame each."""
    rows = [frame_row(number, **changes) for number in range(len(paths))]
    workspace = make_study(folder, [posixpath.join(root, path) for path in paths], rows)
    sources = read_table(workspace.sources_path, SOURCES)
    sources["root"] = root.encode()
    write_table(workspace.sources_path, sources, SOURCES)
    return workspace


def coco(folder: Path, names: list[Any], annotated: list[int] | None = None, **image: Any) -> Path:
    """A COCO file of pictures with these names, and a femur on each of those `annotated`."""
    numbers = range(len(names)) if annotated is None else annotated
    size = {"height": SOURCE[0], "width": SOURCE[1], **image}
    content = {
        "images": [{"id": number, "file_name": name, **size} for number, name in enumerate(names)],
        "categories": [{"id": 1, "name": "femur"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "segmentation": RING} for n in numbers
        ],
    }
    path = folder / "masks.coco.json"
    path.write_text(json.dumps(content))
    return path


def met(
    workspace: Workspace, path: Path, options: ImportOptions | None = None
) -> tuple[list[int], dict[str, int]]:
    """Numbers of the frames that got a mask, and the reasons of refusals."""
    summary = import_masks(workspace, path, options)
    return sorted(int(image_id, 16) for image_id in workspace.masks()["image_id"]), summary.refused


def finder_of(paths: list[str]) -> FrameFinder:
    """The finder of a study of files below /raw, one accepted frame each."""
    rows = [frame_row(number, reasons=[]) for number in range(len(paths))]
    files = [
        SourceFile(f"/raw/{path}", path.count("/"), None, 1, (row,))
        for path, row in zip(paths, rows, strict=True)
    ]
    by_stem: dict[str, list[SourceFile]] = {}
    for file in files:
        by_stem.setdefault(stem_of(file.parts[-1]), []).append(file)
    return FrameFinder(tuple(files), {row["image_id"]: row for row in rows}, by_stem=by_stem)


def names_met(paths: list[str], names: list[str]) -> tuple[list[int], dict[str, int]]:
    """The same for the `names` of pictures in a file below /masks, without a study on disk."""
    pictures = [Picture(name, f"entry {number}", "/masks") for number, name in enumerate(names)]
    matches = match_all(Found(pictures=pictures), finder_of(paths)).values()
    frames = [int(match.row["image_id"], 16) for match in matches if not isinstance(match, NoMatch)]
    return sorted(frames), dict(
        Counter(match.reason for match in matches if isinstance(match, NoMatch))
    )


TWO = ["P1/IM_0001.png", "P2/IM_0001.png"]


@pytest.mark.parametrize(
    ("paths", "names", "frames", "refused"),
    [
        (TWO, ["P1/IM_0001.png"], [0], {}),
        (TWO, ["./P2/IM_0001.jpg"], [1], {}),
        (TWO, ["images\\P2\\IM_0001.png"], [1], {}),
        (TWO, ["C:\\export\\p1\\im_0001.PNG"], [0], {}),
        (TWO, ["IM_0001.png"], [], {"ambiguous": 1}),
        (TWO, ["images/IM_0001.png"], [], {"ambiguous": 1}),
        (TWO, ["P3/IM_0001.png"], [], {"other_folder": 1}),
        (TWO[1:], ["P1/IM_0001.png"], [], {"other_folder": 1}),
        (TWO[1:], ["IM_0001.png"], [0], {}),
        (["P1/a/IM.png", "P2/a/IM.png"], ["a/IM.png"], [], {"ambiguous": 1}),
        (["P1/b/IM.png", "P2/a/IM.png"], ["P1/a/IM.png"], [], {"other_folder": 1}),
        (["P1/a/IM.png", "P1/b/IM.png"], ["P1/a/IM.png", "P1/b/IM.png"], [0, 1], {}),
        (["train/IM.png", "test/IM.png"], ["train/IM.png"], [0], {}),
        (["IM.png"], ["P1/IM.png", "P2/IM.png"], [], {"two_pictures": 2}),
        (["IM.png", "P2/IM.png"], ["P1/IM.png"], [], {"ambiguous": 1}),
        (["scan.png", "scan.dcm"], ["scan.png"], [0], {}),
        (["P1/scan.png", "P2/scan.dcm"], ["scan.png"], [], {"ambiguous": 1}),
        (["1.2.840.1", "1.2.840.2"], ["1.2.840.2.png"], [1], {}),
        (["A/scan.png", "a/scan.png"], ["a/scan.png"], [], {"ambiguous": 1}),
        (["scan.png"], ["/data/local-files/?d=raw/scan.png"], [0], {}),
        (["scan.png"], [" "], [], {"unmatched": 1}),
    ],
)
def test_the_longest_agreeing_path_decides(
    paths: list[str], names: list[str], frames: list[int], refused: dict[str, int]
) -> None:
    assert names_met(paths, names) == (frames, refused)


def test_a_coco_file_meets_the_frames_that_its_names_mean(tmp_path: Path) -> None:
    assert met(study(tmp_path, TWO), coco(tmp_path, ["P2/IM_0001.png", "IM_0001.png"])) == (
        [1],
        {"ambiguous": 1},
    )


def test_a_picture_without_a_mask_is_a_picture_too(tmp_path: Path) -> None:
    path = coco(tmp_path, ["P1/IM.png", "P2/IM.png"], annotated=[0])
    assert met(study(tmp_path, ["IM.png"]), path) == ([], {"two_pictures": 1})


def test_a_refused_name_comes_with_its_candidates(tmp_path: Path) -> None:
    summary = import_masks(study(tmp_path, TWO), coco(tmp_path, ["IM_0001.png"]))
    assert "'IM_0001.png' may be /raw/P1/IM_0001.png, /raw/P2/IM_0001.png" in summary.examples[0]


def test_a_folder_that_says_nothing_can_be_ignored(tmp_path: Path) -> None:
    workspace, path = study(tmp_path, ["P2/IM.png"]), coco(tmp_path, ["Anna/IM.png"])
    assert met(workspace, path) == ([], {"other_folder": 1})
    assert met(workspace, path, ImportOptions(ignored_folders=["anna"])) == ([0], {})


def test_the_folder_given_to_qc_counts_where_files_lie_directly_in_it(tmp_path: Path) -> None:
    assert met(study(tmp_path, ["IM.png"], root="/export/P2"), coco(tmp_path, ["P1/IM.png"])) == (
        [],
        {"other_folder": 1},
    )


@pytest.mark.parametrize(
    ("paths", "masks", "frames", "refused"),
    [
        (TWO, ["P1/IM_0001.png"], [0], {}),
        (TWO, ["P1/IM_0001_mask.png", "P2/IM_0001-seg.png"], [0, 1], {}),
        (TWO, ["IM_0001.png"], [], {"ambiguous": 1}),
        (TWO, ["P3/IM_0001_mask.png"], [], {"other_folder": 1}),
        (["scan.png"], ["anna/scan.png", "ben/scan.png"], [], {"two_pictures": 2}),
        (["scan.png"], ["scan.png", "scan_mask.png"], [], {"two_pictures": 2}),
        (["scan.dcm"], ["scan.dcm.png"], [0], {}),
        (["scan_mask.png", "scan.png"], ["scan_mask.png"], [0], {}),
    ],
)
def test_mask_pictures_meet_frames_by_their_folders(
    tmp_path: Path, paths: list[str], masks: list[str], frames: list[int], refused: dict[str, int]
) -> None:
    for name in masks:
        png(tmp_path / "masks" / name, drawn().astype(np.uint8) * 255)
    assert met(study(tmp_path, paths), tmp_path / "masks", FEMUR) == (frames, refused)


def test_one_patients_folder_of_masks_goes_to_that_patient(tmp_path: Path) -> None:
    png(tmp_path / "masks" / "P2" / "IM_0001.png", drawn().astype(np.uint8) * 255)
    assert met(study(tmp_path, TWO), tmp_path / "masks" / "P2", FEMUR) == ([1], {})


@pytest.mark.parametrize(
    ("folder", "paths", "root", "frames"),
    [
        ("masks/P1", ["P2/IM.png"], "/raw", []),
        ("masks/P1", ["IM.png"], "/export/P2", []),
        ("P1/masks", ["P2/IM.png"], "/raw", []),
        ("2024-01-05", ["2024-01-06/images/IM.png"], "/raw", []),
        ("masks_by_anna", ["P2/IM.png"], "/raw", [0]),
        ("head masks", ["IM.png"], "/mydata", [0]),
        ("masks/P2", ["P2/IM.png"], "/raw", [0]),
    ],
)
def test_a_folder_of_masks_of_another_number_contradicts(
    tmp_path: Path, folder: str, paths: list[str], root: str, frames: list[int]
) -> None:
    png(tmp_path / folder / "IM.png", drawn().astype(np.uint8) * 255)
    refused = {} if frames else {"other_folder": 1}
    assert met(study(tmp_path, paths, root=root), tmp_path / folder, FEMUR) == (frames, refused)


def test_the_data_set_next_to_the_masks_comes_before_another_with_the_same_names(
    tmp_path: Path,
) -> None:
    paths = ["one/images/scan.png", "two/images/scan.jpg"]
    png(tmp_path / "two" / "masks" / "scan.png", drawn().astype(np.uint8) * 255)
    assert met(study(tmp_path, paths, root=str(tmp_path)), tmp_path / "two" / "masks", FEMUR) == (
        [1],
        {},
    )


def test_copies_of_one_picture_are_one_frame(tmp_path: Path) -> None:
    rows = [
        frame_row(0),
        frame_row(0, source_id="copy", status="rejected", file=None, reasons=["exact_duplicate"]),
    ]
    workspace = make_study(tmp_path, ["/raw/P1/IM.png", "/raw/backup/IM.png"], rows)
    assert met(workspace, coco(tmp_path, ["IM.png"])) == ([0], {})


def test_a_mask_that_qc_has_seen_is_no_candidate_even_in_its_own_folder(tmp_path: Path) -> None:
    mask = png(tmp_path / "raw" / "scan_label.png", drawn().astype(np.uint8) * 255)
    rows = [frame_row(0), frame_row(1, status="rejected", file=None)]
    workspace = make_study(tmp_path, [str(tmp_path / "raw" / "scan.png"), str(mask)], rows)
    assert met(workspace, tmp_path / "raw", FEMUR) == ([0], {})


@pytest.mark.parametrize("reasons", [[], ["mask_image"]])
@pytest.mark.parametrize("name", ["im_1_annotation.png", "im_1_label.png", "1a2b3c4d-im_1.png"])
def test_a_name_of_a_frame_that_was_not_accepted_is_no_longer_name_of_another(
    name: str, reasons: list[str]
) -> None:
    finder = finder_of(["im_1.png", name])
    held = frame_row(1)["image_id"]
    finder.files[1].rows[0].update(status="quarantined", reasons=reasons)
    del finder.accepted[held]  # type: ignore[attr-defined]
    found = finder.find(Picture(name, "entry", "/masks"))
    assert isinstance(found, NoMatch) and found.reason == "not_accepted" and name in found.detail


def test_a_frame_of_a_cine_is_never_guessed_even_if_one_was_kept(tmp_path: Path) -> None:
    assert met(study(tmp_path, ["cine.dcm"], source_frames=30), coco(tmp_path, ["cine.png"])) == (
        [],
        {"many_frames": 1},
    )


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("images\\4\\cb0618f6-scan_0.png", "scan_0"),
        ("cb0618f6-scan_0_gt.png", "scan_0"),
        ("scan_0_png.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg", "scan_0"),
        ("train/scan_0_jpeg.rf.AbC0a1b2c3.jpg", "scan_0"),
        ("scan_0_segmentation.png", "scan_0"),
        ("scan_0_Label.png", "scan_0"),
        ("scan_0_gt.png", "scan_0"),
        ("000_HC_Annotation.png", "000_hc"),
        ("scan 0 mask.png", "scan 0"),
        ("scan-0-ground_truth.png", "scan-0"),
        ("scan_0_seg_mask.png", "scan_0"),
        ("scan.dcm_mask.png", "scan"),
    ],
)
def test_what_tools_add_to_a_name_is_taken_off(name: str, frame: str) -> None:
    stem = stem_of(name.replace("\\", "/").rpartition("/")[2].casefold())
    assert frame in [reading.stem for reading in readings(stem)]


@pytest.mark.parametrize(
    "name",
    [
        "scan_1",
        "cb0618f-scan",
        "20240115-scan",
        "mask",
        "labels",
        "gt_scan",
        "unmasked",
        "scan_png.rf.12",
    ],
)
def test_a_name_is_not_cut_for_less(name: str) -> None:
    assert [reading.stem for reading in readings(name)] == [name]


def test_two_uploads_of_one_name_mean_none(tmp_path: Path) -> None:
    path = coco(tmp_path, ["images/4/cb0618f6-scan.png", "images/5/90fbb0c7-scan.png"])
    assert met(study(tmp_path, ["P1/scan.png"]), path) == ([], {"two_pictures": 2})


@pytest.mark.parametrize(
    ("paths", "name", "frames", "refused"),
    [
        (TWO, "images/4/cb0618f6-IM_0001.png", [], {"ambiguous": 1}),
        (TWO, "P1/cb0618f6-IM_0001.png", [0], {}),
        (TWO[1:], "P1/cb0618f6-IM_0001.png", [], {"other_folder": 1}),
        (TWO[1:], "upload/4/cb0618f6-IM_0001.png", [0], {}),
        (TWO[1:], "20240115-IM_0001.png", [], {"unmatched": 1}),
        (
            TWO[1:],
            "P1/IM_0001_png.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
            [],
            {"other_folder": 1},
        ),
    ],
)
def test_folders_count_for_what_tools_have_renamed(
    paths: list[str], name: str, frames: list[int], refused: dict[str, int]
) -> None:
    assert names_met(paths, [name]) == (frames, refused)


def test_an_image_id_is_evidence_enough_and_a_former_crop_is_not(tmp_path: Path) -> None:
    stored_size = {"height": 26, "width": 30}
    crop = f"{0:016x}-{0xABCDEF:08x}"
    workspace = study(tmp_path, ["scan.png"], file=f"frames/00/{crop}.png")
    ring = coco(tmp_path, [f"frames/00/{crop}.png"], **stored_size)
    assert met(workspace, ring) == ([0], {})
    assert met(workspace, coco(tmp_path, [f"{0:016x}-11111111.png"], **stored_size))[1] == {
        "changed": 1
    }
    assert met(workspace, coco(tmp_path, [f"{0:016x}.png"], **stored_size))[1] == {}


def write_coco(
    folder: Path, images: list[dict[str, Any]], annotations: list[Any], encoding: str = "utf-8"
) -> Path:
    size = {"height": SOURCE[0], "width": SOURCE[1]}
    content = {
        "images": [{**size, **image} for image in images],
        "categories": [{"id": "c", "name": "femur"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": "c", "segmentation": RING}
            for number, image in enumerate(annotations)
        ],
    }
    path = folder / "masks.coco.json"
    path.write_bytes(json.dumps(content).encode(encoding))
    return path


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([(1, "a.png"), (1, "b.png")], ("a.png", "b.png", "share the id 1")),
        ([("7", "a.png"), (7, "b.png")], ("a.png", "b.png", "share the id 7")),
        ([(1, "a.png"), (2, "a.png")], ("'a.png' is the name of image 1 and of image 2",)),
        ([(1, "v/a.png"), (2, ".\\v\\a.png")], ("image 1 and of image 2",)),
        ([("u1", "a.png"), (3, "a.png"), (4, "b.png")], ("image u1 and of image 3",)),
    ],
)
def test_images_that_share_an_id_or_a_name_are_an_error_that_names_both(
    tmp_path: Path, images: list[tuple[Any, str]], words: tuple[str, ...]
) -> None:
    workspace = study(tmp_path, ["a.png", "b.png"])
    path = write_coco(
        tmp_path, [{"id": key, "file_name": name} for key, name in images], [images[0][0]]
    )
    with pytest.raises(SonoError) as caught:
        import_masks(workspace, path)
    assert all(word in str(caught.value) for word in words)
    assert workspace.masks().empty


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_ids_may_be_texts_and_numbers_may_be_written_as_texts(
    tmp_path: Path, encoding: str
) -> None:
    images = [
        {"id": "a1", "file_name": "./a.png"},
        {"id": 7, "file_name": "b.png"},
        {"id": 9.0, "file_name": "c.png"},
    ]
    path = write_coco(tmp_path, images, ["a1", "7", 9], encoding)
    assert met(study(tmp_path, ["a.png", "b.png", "c.png"]), path) == ([0, 1, 2], {})


def test_an_entry_given_twice_alike_is_one(tmp_path: Path) -> None:
    path = write_coco(tmp_path, [{"id": 1, "file_name": "a.png"}] * 2, [1])
    assert met(study(tmp_path, ["a.png"]), path) == ([0], {})


FOLDERS = st.lists(st.sampled_from(["P1", "P2", "P3", "images", "day1", "day2"]), max_size=3)
PATHS = st.builds(
    lambda folders, stem: "/".join([*folders, f"{stem}.png"]),
    FOLDERS,
    st.sampled_from(["IM_1", "IM_2"]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PATHS, min_size=1, max_size=8, unique=True), st.data())
def test_no_mask_ever_meets_a_frame_of_another_path(paths: list[str], data: st.DataObject) -> None:
    """No match of a random tree of files contradicts the truth.

    Some of the files are in the study, and masks exist for some. Every refusal has a reason.
    """
    kept = data.draw(st.lists(st.sampled_from(paths), min_size=1, unique=True))
    named = data.draw(
        st.one_of(st.just(paths), st.lists(st.sampled_from(paths), min_size=1, unique=True))
    )
    before = data.draw(st.sampled_from(["", "C:/export/", "./"]))
    finder = finder_of(kept)
    found = Found(pictures=[Picture(before + path, path, "/masks") for path in named])
    for path, match in match_all(found, finder).items():
        if isinstance(match, NoMatch):
            assert match.reason in REFUSALS
            assert match.detail
            continue
        truth = kept[int(match.row["image_id"], 16)]
        assert truth == path or (set(named) != set(paths) and one_ends_the_other(truth, path))


def one_ends_the_other(one: str, other: str) -> bool:
    """Whether one path ends with the folders of the other that name a patient or a day."""
    first, second = (
        [part for part in path.split("/")[:-1] if part != "images"] for path in (one, other)
    )
    shorter, longer = sorted((first, second), key=len)
    return longer[len(longer) - len(shorter) :] == shorter


@pytest.mark.parametrize(
    "name", ["cb0618f6-{}.png", "{}_png.rf.0a1b2c3d4e5f6.jpg", "{}_mask.png", "cb0618f6-{}_seg.png"]
)
def test_an_image_id_is_known_with_what_tools_add(tmp_path: Path, name: str) -> None:
    size = {"height": SOURCE[0], "width": SOURCE[1]}
    row = frame_row(0, **size, file=f"frames/00/{0:016x}-0123abcd.png")
    workspace = make_study(tmp_path, ["/raw/scan.png"], [row])
    path = coco_file(tmp_path, [[10, 10, 20, 10, 20, 20]], name.format(f"{0:016x}-0123abcd"))
    assert import_masks(workspace, path).evidence == {"image id": 1}
