"""No message shows a name that only the headers of files contain, in the first or a later run."""

import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom

from sono.cli import main
from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, run_qc
from sono.curation.records.check import check_records
from sono.curation.records.read import RecordsConfig

NAMES = ("quillfeather", "Okonkwo", "Xanthippe")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two files, of a patient and an operator whom no table names."""
    noise = np.random.default_rng(0).integers(0, 255, (120, 160), np.uint8)
    for name in ("a.dcm", "b.dcm"):
        who = {"PatientName": "QUILLFEATHER^XANTHIPPE", "OperatorsName": "Okonkwo^Ada"}
        write_dicom(tmp_path / "raw" / name, noise, PatientID="P1", **who)
    return tmp_path / "raw"


def graded(folder: Path, text: str, names: bool = False, settings: str = "") -> tuple[str, ...]:
    (folder / "records.csv").write_text(text)
    study = (
        Workspace(folder / "study")
        if (folder / "study").exists()
        else Workspace.create(folder / "study")
    )
    if settings:
        study.config_path.write_text(study.config_path.read_text() + settings)
    return run_qc(
        study, QcOptions(folder / "raw", folder / "records.csv", names=names), Engine(jobs=1)
    ).remarks


def test_a_cell_with_a_name_of_a_header_is_masked_in_the_first_run_as_in_the_second(
    raw: Path,
) -> None:
    first_name, second_name, third_name = NAMES
    text = f"file,findings,HC,{third_name}\na.dcm,{first_name},{second_name},x\nb.dcm,nodul,9,\n"
    first, second = graded(raw.parent, text), graded(raw.parent, text)
    told = " ".join(first)
    assert first == second and not [name for name in NAMES if name in told]
    assert "unknown finding 'nodul'" in told and "unused columns" in told


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_plane_that_may_be_a_name_is_shown_by_its_look(raw: Path, name: str) -> None:
    text = f"file,plane\na.dcm,{name}\nb.dcm,femor\n"
    for names in (False, True):
        with pytest.raises(SonoError, match="unknown plane 'femor'") as caught:
            graded(raw.parent, text, names)
        assert (name in str(caught.value)) == names and (
            "--names shows" in str(caught.value)
        ) != names


def test_a_cell_that_is_no_split_is_shown_by_its_look_unless_it_is_a_number(raw: Path) -> None:
    text = "file,Split\na.dcm,Quillfeather\nb.dcm,3\n"
    with pytest.raises(SonoError, match="has 'Aa', which is not a split") as caught:
        graded(raw.parent, text, settings='\n[splits]\ncolumn = "Split"\n')
    assert "Quill" not in str(caught.value)
    with pytest.raises(SonoError, match="has '3', which is not a split"):
        graded(raw.parent, text.replace("Quillfeather", "train"))


@pytest.mark.parametrize("name", NAMES)
def test_check_shows_no_name_of_a_header(raw: Path, name: str) -> None:
    table = raw.parent / "records.csv"
    table.write_text(f"file,findings,plane\na.dcm,{name},{name}\nb.dcm,EIF?,femor\n")
    report = check_records(table, RecordsConfig(), PlaneTable(), raw)
    assert name not in str(report) and "femor" in report.stops_qc and "EIF?" in str(report.rejected)


def test_a_folder_with_a_name_is_shown_by_its_look(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for place in ("Quillfeather/one", "Okonkwo"):
        (raw / place).mkdir(parents=True)
        (raw / place / "hc.csv").write_text(
            "filename,pixel size(mm),head circumference (mm)\na.dcm,0.1,200\n"
        )
    study = Workspace.create(raw.parent / "study")
    (raw / "Quillfeather" / "hc.csv").write_text((raw / "Okonkwo" / "hc.csv").read_text())
    monkeypatch.setattr(sys, "argv", ["sono", "qc", str(raw), "-w", str(study.root), "--jobs", "1"])
    with pytest.raises(SystemExit):
        main()
    told = "".join(capfd.readouterr())
    assert "several records tables" in told and not [
        name for name in ("Quillf", "Okonkwo") if name in told
    ]


def test_a_label_of_several_patients_is_shown_with_its_rows_and_all_labels_are_listed(
    raw: Path,
) -> None:
    words = [f"Blick {letter * 3}" for letter in "abcdefghjklm"]
    own = [f"{word}{number}.png,W{number},{word}" for word in words for number in range(3)]
    named = [f"{number}.png,W9,{NAMES[0]}" for number in range(4)]
    text = "\n".join(("file,MRN,plane", *own, *named)) + "\n"
    with pytest.raises(SonoError) as caught:
        graded(raw.parent, text)
    told = str(caught.value)
    assert not [word for word in words if f"): unknown plane '{word}'" not in told]
    assert "planes_file" in told and "--names shows" in told
    assert NAMES[0] not in told and "4 rows" in told and "unknown plane 'a'" in told
