"""De-identified DICOM: the same pixels, strict values, and nothing of the source."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import config, dcmread

from sono.curation.clinical.vocabulary import VOCABULARY
from sono.curation.core.atomic import write_bytes
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.frame_files import (
    encode_png,
    frame_file,
    image_id_of,
    read_stored,
    stored_path,
)
from sono.curation.core.tables import CAPTIONS, IMAGES, from_rows, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.statistics import compute_statistics
from sono.curation.export_dicom import CLEAN_PIXELS, export_dicom, keyed_uid
from sono.curation.privacy.gate import private_strings
from sono.curation.privacy.private_strings import collect

FRAMES = {
    "clean": {
        "patient_id": "aa11",
        "study_id": "5a11",
        "row_spacing_mm": 0.31,
        "col_spacing_mm": 0.30,
        "plane": "femur",
        "ga_days": 157,
        "machine": "Aurelia V8",
        "sector_kind": "convex",
        "reasons": [],
    },
    "calipers": {
        "patient_id": "aa11",
        "study_id": "5a11",
        "sector_kind": "convex",
        "reasons": ["overlay"],
    },
    "unsure": {
        "patient_id": "bb22",
        "study_id": None,
        "sector_kind": "full",
        "reasons": ["sector_unsure"],
    },
    "dated": {
        "patient_id": "cc33",
        "study_id": "5c33",
        "exam_date": "2123-05-04",
        "sector_kind": "convex",
        "reasons": [],
    },
    "nobody": {
        "patient_id": None,
        "study_id": None,
        "sector_kind": "linear",
        "reasons": ["near_duplicate"],
    },
}


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Five frames, one of odd size, of sources named after Jane Doeworth."""
    workspace = Workspace.create(tmp_path / "study")
    rows = []
    for number, (name, values) in enumerate(FRAMES.items()):
        gray = np.random.default_rng(number).integers(0, 256, (65, 71 + number), np.uint8)
        image_id = image_id_of(gray)
        write_bytes(workspace.root / frame_file(image_id, gray), encode_png(gray))
        size = {"height": gray.shape[0], "width": gray.shape[1]}
        rows.append(
            values
            | {
                "image_id": image_id,
                "source_id": f"5{name}",
                "frame": 0,
                "status": "accepted",
                "file": frame_file(image_id, gray),
            }
            | size
        )
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    source = {
        "path": b"/raw/DOEWORTH.dcm",
        "root": b"/raw",
        "settings_hash": "x",
        "private": ["DOEWORTH^JANE"],
    }
    write_table(workspace.sources_path, from_rows(SOURCES, [row | source for row in rows]), SOURCES)
    return workspace


def exported(study: Workspace, out: Path) -> dict[str, object]:
    export_dicom(study, out)
    names = {row.image_id: str(row.source_id)[1:] for row in study.images().itertuples()}
    return {names[path.stem]: dcmread(path) for path in sorted(out.rglob("*.dcm"))}


def test_the_pixels_are_those_of_the_stored_frames(study: Workspace, tmp_path: Path) -> None:
    files = exported(study, tmp_path / "out")
    assert sorted(files) == sorted(FRAMES)
    for row in study.images().itertuples():
        data = files[row.source_id[1:]]
        assert np.array_equal(data.pixel_array, read_stored(stored_path(study, row.file)))
        assert (data.PhotometricInterpretation, data.BitsStored, data.Modality) == (
            "MONOCHROME2",
            8,
            "US",
        )
        assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1"


def test_who_and_when_are_pseudonyms_and_blanks(study: Workspace, tmp_path: Path) -> None:
    files = exported(study, tmp_path / "out")
    assert files["clean"].PatientID == files["clean"].PatientName == "aa11"
    assert files["nobody"].PatientID == "5nobody"
    for data in files.values():
        assert data.PatientIdentityRemoved == "YES"
        assert "113100" in [item.CodeValue for item in data.DeidentificationMethodCodeSequence]
        empty = (
            "PatientBirthDate",
            "StudyDate",
            "StudyTime",
            "AccessionNumber",
            "ReferringPhysicianName",
            "StudyID",
        )
        dated = data.PatientID == "cc33"
        assert [data.get(keyword) for keyword in empty] == [
            "",
            "21230504" if dated else "",
            "",
            "",
            "",
            "",
        ]
        assert data.LongitudinalTemporalInformationModified == ("MODIFIED" if dated else "REMOVED")
        assert not any(element.tag.is_private for element in data)
    assert files["clean"].ImageComments == "plane femur; gestational age 157 days"


def test_print_is_never_denied_and_called_clean_only_where_none_was_seen(
    study: Workspace, tmp_path: Path
) -> None:
    files = exported(study, tmp_path / "out")
    assert not any("BurnedInAnnotation" in data for data in files.values())
    methods = {
        name: [item.CodeValue for item in data.DeidentificationMethodCodeSequence]
        for name, data in files.items()
    }
    assert {name for name, codes in methods.items() if CLEAN_PIXELS[0] in codes} == {
        "clean",
        "dated",
        "nobody",
    }


def test_millimetres_stand_in_a_region_where_they_are_known(
    study: Workspace, tmp_path: Path
) -> None:
    files = exported(study, tmp_path / "out")
    region = files["clean"].SequenceOfUltrasoundRegions[0]
    assert (region.PhysicalDeltaX, region.PhysicalDeltaY) == (0.03, 0.031)
    assert (region.PhysicalUnitsXDirection, region.RegionDataType) == (3, 1)
    assert (region.RegionLocationMaxX1, region.RegionLocationMaxY1) == (70, 64)
    assert "SequenceOfUltrasoundRegions" not in files["calipers"]


def test_uids_are_stable_lie_below_2_25_and_depend_on_the_key(
    study: Workspace, tmp_path: Path
) -> None:
    first, again = exported(study, tmp_path / "a"), exported(study, tmp_path / "b")
    for name, data in first.items():
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            assert re.fullmatch(r"2\.25\.(0|[1-9]\d{0,38})", data[keyword].value)
            assert data[keyword].value == again[name][keyword].value
    assert (
        first["clean"].StudyInstanceUID
        == first["calipers"].StudyInstanceUID
        != first["unsure"].StudyInstanceUID
    )
    assert len({data.SOPInstanceUID for data in first.values()}) == 5
    assert keyed_uid(b"a" * 32, "image", "x") != keyed_uid(b"b" * 32, "image", "x")
    contents = [
        sorted(path.read_bytes() for path in (tmp_path / name).rglob("*.dcm")) for name in "ab"
    ]
    assert contents[0] == contents[1]


def test_every_value_passes_the_strict_checks_of_pydicom(study: Workspace, tmp_path: Path) -> None:
    export_dicom(study, tmp_path / "out")
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.RAISE
    try:
        for path in (tmp_path / "out").rglob("*.dcm"):
            assert len(str(dcmread(path))) > 500  # every element is converted
    finally:
        config.settings.reading_validation_mode = before


def test_an_overlong_machine_name_is_cut(study: Workspace, tmp_path: Path) -> None:
    images = study.images().assign(machine="M\\" + "x" * 100)
    study.write(IMAGES, images)
    assert len(exported(study, tmp_path / "out")["clean"].ManufacturerModelName) == 64


@pytest.mark.skipif(
    not shutil.which("dciodvfy"), reason="the Debian package dicom3tools is not installed"
)
def test_the_files_satisfy_an_independent_validator(study: Workspace, tmp_path: Path) -> None:
    export_dicom(study, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.dcm"):
        done = subprocess.run(
            ["dciodvfy", "-new", path], capture_output=True, text=True, check=False
        )
        assert "USImage" in done.stderr
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_the_gate_runs_over_the_export(study: Workspace, tmp_path: Path) -> None:
    study.write(IMAGES, study.images().assign(machine="Doeworth"))
    with pytest.raises(PrivacyError, match=r"\.dcm: 1 private string"):
        export_dicom(study, tmp_path / "out")
    assert private_strings(study).found_in("doeworth")


def test_a_folder_with_files_is_not_written_to(study: Workspace, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(SonoError, match="not an empty folder"):
        export_dicom(study, tmp_path / "out")


def test_the_summary_counts_as_the_statistics_do(study: Workspace, tmp_path: Path) -> None:
    summary = export_dicom(study, tmp_path / "out")
    counted = compute_statistics(
        study.images(), study.masks(), study.read(CAPTIONS), study.planes()
    ).frames
    assert (summary.files, summary.patients, summary.studies) == (5, 3, 2)
    assert (counted["accepted"], counted["patients"], counted["studies"]) == (5, 3, 2)
    assert (summary.files_without_patient, summary.files_without_study) == (1, 2)
    assert (summary.calibrated, summary.without_print) == (1, 3)


def test_what_the_export_says_is_not_private_where_a_header_says_it_too() -> None:
    said = ["gestational age by LMP", "gray pixels cropped to the sector"]
    text = "plane femur; gestational age 157 days; Gray pixels cropped to the sector"
    assert collect(said, VOCABULARY).found_in(text) == set()
