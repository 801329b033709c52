"""The synthetic study: what it writes is what its truth file says."""

import io
import json
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from sono.curation.clinical.gestational_age import parse_ga
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PLANES, Plane, PlaneTable
from sono.curation.core.reasons import REASONS, SEVERITIES
from sono.curation.phantom.anatomy import (
    DRAWINGS,
    draw_plane,
    ellipse_circumference,
    half_size_mm,
    visible_masks,
)
from sono.curation.phantom.frames import LOOKS, PROBES
from sono.curation.phantom.patients import make_patient, mixed_date, mixed_ga, mixed_label
from sono.curation.phantom.physics import render, sector_mask
from sono.curation.phantom.scene import BONE, TISSUE, Pose, fill, new_scene, oval
from sono.curation.phantom.study import PhantomSummary, deal_planes, make_phantom


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomSummary:
    """Eight patients, the fourth and eighth with DICOM, three files each."""
    return make_phantom(
        tmp_path_factory.mktemp("phantom") / "study", patients=8, frames_per_patient=3, seed=4
    )


@pytest.fixture(scope="module")
def truth(study: PhantomSummary) -> dict:
    return json.loads((study.out / "truth.json").read_text())


@pytest.fixture(scope="module")
def records(study: PhantomSummary) -> pd.DataFrame:
    return pd.read_csv(
        study.out / "records.csv", sep=";", dtype=str, keep_default_na=False, encoding="utf-8-sig"
    )


def planted(truth: dict, kind: str) -> list[str]:
    return [path for path, purpose in truth["special"].items() if kind in purpose]


def gray(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return np.asarray(picture)


def test_the_summary_counts_what_stands_in_the_folder(study: PhantomSummary, truth: dict) -> None:
    files = [path for path in (study.out / "raw").rglob("*") if path.is_file()]
    assert (study.patients, study.files - study.planted, study.files) == (8, 24, len(files))
    assert {str(path.relative_to(study.out)) for path in files} == set(truth["files"])
    assert study.size_bytes == sum(path.stat().st_size for path in files)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    trees = []
    for name in ("a", "b"):
        make_phantom(tmp_path / name, patients=4, frames_per_patient=2, seed=1)
        trees.append(
            {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        )
    assert trees[0] == trees[1]
    assert make_patient(0, "A", 1) != make_patient(0, "A", 2)


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(SonoError, match="exists and is not an empty folder; choose a new name"):
        make_phantom(tmp_path)


@pytest.mark.parametrize(
    "numbers", [{"patients": 5}, {"patients": 2}, {"frames_per_patient": 1}, {"seed": -1}]
)
def test_impossible_numbers_are_refused_with_their_value(
    tmp_path: Path, numbers: dict[str, int]
) -> None:
    with pytest.raises(SonoError, match=f"is {next(iter(numbers.values()))}; give"):
        make_phantom(tmp_path / "new", **numbers)
    assert not (tmp_path / "new").exists()


def test_ten_of_each_plane_fall_to_a_center_at_the_default_size() -> None:
    planes = deal_planes(30 * 8, np.random.default_rng(0))
    assert {plane: planes.count(plane) for plane in DRAWINGS} == dict.fromkeys(DRAWINGS, 10)


def test_there_is_a_drawing_for_each_plane_and_no_other() -> None:
    assert sorted(DRAWINGS) == sorted(plane.id for plane in PLANES)


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.id)
def test_a_plane_shows_its_structures_inside_the_sector(plane: Plane) -> None:
    for probe in PROBES.values():
        drawn = draw_plane(plane.id, probe, 22 * 7, np.random.default_rng(5))
        assert set(drawn.scene.masks) >= set(plane.structures)
        masks = visible_masks(drawn.scene, plane.id, probe)
        assert len(masks) >= len(plane.structures) - 1
        assert not any((mask & ~sector_mask(probe)).any() for mask in masks.values())


def test_an_older_fetus_is_larger_on_every_later_plane() -> None:
    for plane in DRAWINGS:
        assert half_size_mm(plane, 34 * 7) > 1.3 * half_size_mm(plane, 22 * 7)


def test_the_head_mask_measures_the_biparietal_diameter_of_the_record() -> None:
    drawn = draw_plane("transthalamic", PROBES["A"], 24 * 7, np.random.default_rng(1))
    contours, _ = cv2.findContours(
        drawn.scene.masks["fetal head"], cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    _, diameters, _ = cv2.fitEllipse(contours[0])
    assert min(diameters) * drawn.spacing_mm == pytest.approx(drawn.biometry_mm["bpd"], rel=0.08)


def test_the_circumference_of_a_circle_is_two_pi_r() -> None:
    assert ellipse_circumference(3, 3) == pytest.approx(6 * np.pi)


def test_bone_casts_a_shadow_and_nothing_shines_outside_the_sector() -> None:
    probe, rng = PROBES["A"], np.random.default_rng(2)
    scene = new_scene(probe.height, probe.width, Pose(400, 250, 0, 100), rng)
    scene.echo_db[:] = TISSUE
    fill(scene, oval((0, 0), (0.5, 0.1)), BONE, "bone", loss=1.5)
    frame = render(scene, probe, LOOKS["A"], rng)
    assert frame[300:400, 370:430].mean() < 0.5 * frame[300:400, 520:580].mean()
    assert not frame[~sector_mask(probe)].any()


def test_speckle_of_one_look_has_the_spread_of_rayleigh_amplitudes() -> None:
    probe, rng = PROBES["B"], np.random.default_rng(3)
    scene = new_scene(probe.height, probe.width, Pose(360, 270, 0, 100), rng)
    scene.echo_db[:] = TISSUE
    level_db = render(scene, probe, LOOKS["B"], rng)[250:330, 330:400] / 255 * LOOKS["B"].range_db
    # dB; texture adds to it, interpolation takes from it
    assert level_db.std() == pytest.approx(5.57, abs=1.5)


@pytest.mark.parametrize("form", range(5))
def test_every_spelling_of_an_age_is_read_back(form: int) -> None:
    assert [parse_ga(mixed_ga(days, form)) for days in range(77, 287)] == list(range(77, 287))


def test_dates_and_labels_come_in_known_spellings() -> None:
    day = date(2024, 3, 12)
    assert [mixed_date(day, form) for form in range(4)] == [
        "2024-03-12",
        "12.03.2024",
        "20240312",
        "2024-03-12 09:41",
    ]
    rng = np.random.default_rng(0)
    for plane in DRAWINGS:
        assert {PlaneTable().find(mixed_label(plane, rng)) for _ in range(20)} == {plane}


def test_patients_have_numbers_and_names_of_their_own() -> None:
    patients = [make_patient(number, "AB"[number % 2], 0) for number in range(600)]
    assert (
        len({patient.mrn for patient in patients})
        == len({patient.dicom_name for patient in patients})
        == 600
    )
    assert all(
        77 <= patient.exams[0].ga_days < 98 and patient.exams[1].ga_days >= 126
        for patient in patients
    )


def test_no_patient_stands_in_both_centers(truth: dict) -> None:
    of_center = {
        center: {f["patient"] for f in truth["files"].values() if f["center"] == center}
        for center in "AB"
    }
    assert of_center["A"].isdisjoint(of_center["B"])


def test_every_recorded_file_has_one_row_and_one_file_a_center_has_none(
    records: pd.DataFrame, truth: dict
) -> None:
    expected = {Path(path).name for path, facts in truth["files"].items() if facts["recorded"]}
    assert sorted(records["File"]) == sorted(expected)
    missing = [f for f in truth["files"].values() if not f["recorded"] and not f["planted"]]
    assert sorted(f["center"] for f in missing) == ["A", "B"]


def test_an_age_is_in_the_row_or_follows_from_the_last_period(records: pd.DataFrame) -> None:
    assert ((records["GA"] != "") ^ (records["LMP"] != "")).all()


def test_masks_are_coco_run_lengths_of_the_frames_they_name(
    study: PhantomSummary, truth: dict
) -> None:
    content = json.loads((study.out / "masks.coco.json").read_text())
    by_name = {Path(path).name: facts for path, facts in truth["files"].items()}
    images = {image["id"]: image for image in content["images"]}
    for annotation in content["annotations"]:
        facts = by_name[images[annotation["image_id"]]["file_name"]]
        assert annotation["segmentation"]["size"] == [facts["height"], facts["width"]]
        assert coco.area(annotation["segmentation"]) == annotation["area"] > 0
    named = {category["id"]: category["name"] for category in content["categories"]}
    assert set(named.values()) == set(PlaneTable().structures)


def test_dicom_regions_give_the_spacing_and_the_sector(study: PhantomSummary, truth: dict) -> None:
    files = [
        path for path, f in truth["files"].items() if path.endswith(".dcm") and f.get("spacing_mm")
    ]
    assert len(files) >= 10
    for path in files:
        data, facts = pydicom.dcmread(study.out / path), truth["files"][path]
        region = data.SequenceOfUltrasoundRegions[0]
        assert region.PhysicalDeltaX * 10 == pytest.approx(facts["spacing_mm"], rel=1e-4)
        assert [region.RegionLocationMinX0, region.RegionLocationMinY0] == facts["sector_box"][:2]
        assert data.pixel_array.shape[-3 if data.SamplesPerPixel == 3 else -2 :][:2] == (
            facts["height"],
            facts["width"],
        )


def test_cines_and_compressed_files_are_among_the_dicom_files(
    study: PhantomSummary, truth: dict
) -> None:
    paths = [
        path
        for path in truth["files"]
        if path.endswith(".dcm") and not truth["files"][path]["planted"]
    ]
    headers = [pydicom.dcmread(study.out / path, stop_before_pixels=True) for path in paths]
    assert {header.file_meta.TransferSyntaxUID.name for header in headers} == {
        "Explicit VR Little Endian",
        "RLE Lossless",
    }
    assert {int(header.get("NumberOfFrames", 1)) for header in headers} == {1, 3}


def test_monochrome1_is_stored_inverted(study: PhantomSummary, truth: dict) -> None:
    data = pydicom.dcmread(study.out / planted(truth, "MONOCHROME1")[0])
    assert data.PhotometricInterpretation == "MONOCHROME1"
    assert data.pixel_array[-1, 0] == 255  # black, outside the sector


def test_the_doppler_frame_has_red_and_blue_inside(study: PhantomSummary, truth: dict) -> None:
    rgb = pydicom.dcmread(study.out / planted(truth, "Doppler")[0]).pixel_array.astype(int)
    assert ((rgb[..., 0] - rgb[..., 2]) > 100).sum() > 50
    assert ((rgb[..., 2] - rgb[..., 0]) > 100).sum() > 50


def test_exact_copies_share_bytes_and_near_copies_share_the_picture(
    study: PhantomSummary, truth: dict
) -> None:
    kinds = [pair["kind"] for pair in truth["duplicates"]]
    assert (kinds.count("exact"), kinds.count("near")) == (6, 4)
    for pair in truth["duplicates"]:
        first, second = (study.out / path for path in pair["files"])
        assert (first.read_bytes() == second.read_bytes()) == (pair["kind"] == "exact")
        if pair["kind"] == "near":
            small = [
                cv2.resize(gray(path), (200, 150), interpolation=cv2.INTER_AREA).ravel()
                for path in (first, second)
            ]
            assert np.corrcoef(small)[0, 1] > 0.97
    assert [pair["same_patient"] for pair in truth["duplicates"]].count(False) == 2


def test_five_kinds_of_broken_files_stand_in_each_center(
    study: PhantomSummary, truth: dict
) -> None:
    assert len(truth["broken"]) == 10
    assert all(
        len({truth["special"][p] for p in truth["broken"] if f"raw/{c}/" in p}) == 5 for c in "AB"
    )
    for path in planted(truth, "truncated DICOM"):
        data = pydicom.dcmread(io.BytesIO((study.out / path).read_bytes()))
        assert len(data.PixelData) < data.Rows * data.Columns


def test_expected_statuses_and_codes_are_those_of_curation(truth: dict) -> None:
    for facts in truth["files"].values():
        assert set(facts["expected"]["statuses"]) <= set(SEVERITIES)
        assert set(facts["expected"]["codes"]) <= set(REASONS)


def test_private_strings_stand_where_the_truth_says(study: PhantomSummary, truth: dict) -> None:
    seen = set()
    for item in truth["private"]:
        if item["location"].startswith(
            ("header", "nested", "private", "EXIF", "PNG", "text", "column")
        ):
            assert item["value"].encode() in (study.out / item["file"]).read_bytes(), item
        if item["location"] in ("file name", "folder name"):
            assert item["value"].lower() in item["file"].lower()
        seen.add(item["location"].split()[0])
    assert {
        "header",
        "nested",
        "private",
        "EXIF",
        "PNG",
        "file",
        "folder",
        "burned",
        "column",
    } <= seen


def test_names_are_burned_outside_the_sector_of_every_ordinary_frame(
    study: PhantomSummary, truth: dict
) -> None:
    for path, facts in truth["files"].items():
        if facts["planted"] or not path.endswith(".png"):
            continue
        outside = np.ones((facts["height"], facts["width"]), np.uint8)
        cv2.fillPoly(outside, [np.round(facts["sector_polygon"]).astype(np.int32)], 0)
        cv2.polylines(outside, [np.round(facts["sector_polygon"]).astype(np.int32)], True, 0, 5)
        assert (gray(study.out / path)[outside > 0] > 100).sum() > 400
        assert facts["patient"][0] == facts["center"] and len(facts["burned"]) == 4
