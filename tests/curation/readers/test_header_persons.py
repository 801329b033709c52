"""Which persons and texts of a header are private; no text of a header reaches a column."""

import io
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from pydicom import dcmread, dcmwrite
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from sono.curation.clinical.vocabulary import PROSE, VOCABULARY
from sono.curation.core.tables import IMAGES
from sono.curation.imaging.analysis import AnalysisTask, analyze
from sono.curation.imaging.quality import QualityConfig
from sono.curation.privacy.private_strings import collect
from sono.curation.readers.dicom import read_dicom
from sono.curation.readers.source import Header

PERSONS = [entry[4] for entry in DicomDictionary.values() if entry[0] == "PN"]
TEXTS = [
    entry[4]
    for tag, entry in DicomDictionary.items()
    if entry[0] in ("LO", "LT", "SH", "ST", "UC", "UT")
    and tag >> 16 > 7
    and entry[4]
    and entry[4] not in ("Manufacturer", "ManufacturerModelName")
]
NOISE = np.random.default_rng(0).integers(0, 255, (120, 160), np.uint8)


def header_of(made: Dataset, path: Path, implicit: bool = False) -> Header:
    """The header of a file with the elements of `made`."""
    write_dicom(path, NOISE)
    whole = dcmread(path)
    whole.update(made)
    buffer = io.BytesIO()
    if implicit:
        whole.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dcmwrite(buffer, whole, enforce_file_format=True)
    return read_dicom(buffer.getvalue()).header


def test_every_person_is_collected_wherever_it_stands(tmp_path: Path) -> None:
    made, nested = Dataset(), Dataset()
    for number, keyword in enumerate(PERSONS):
        setattr(made, keyword, f"Topname{number:02}^Ada")
        setattr(nested, keyword, f"Lowname{number:02}^Ada")
    request, code = Dataset(), Dataset()
    request.RequestAttributesSequence = Sequence([nested])
    made.RequestAttributesSequence = Sequence([request])
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "99417", "99X", "Okonkwo, Mary"
    operator = Dataset()
    operator.PersonIdentificationCodeSequence = Sequence([code])
    made.OperatorIdentificationSequence = Sequence([operator])
    block = made.private_block(0x0009, "ACME", create=True)
    block.add_new(0x10, "PN", "Innername^Ada")
    block.add_new(0x11, "SQ", [nested])
    found = header_of(made, tmp_path / "a.dcm")
    expected = {
        f"{kind}name{number:02}^Ada" for kind in ("Top", "Low") for number in range(len(PERSONS))
    }
    assert expected | {"Okonkwo, Mary", "Innername^Ada"} <= set(found.persons)
    assert "99417" in found.private


@pytest.mark.parametrize(
    "keyword", ["PatientComments", "ImageComments", "StudyDescription", "ProtocolName"]
)
@pytest.mark.parametrize(
    "text", ["Quillfeather^Ada", "seen by Quillfeather^Ada, again", "(QUILLFEATHER^ADA^M)"]
)
def test_what_is_written_like_a_name_is_one(tmp_path: Path, keyword: str, text: str) -> None:
    made = Dataset()
    setattr(made, keyword, text)
    found = header_of(made, tmp_path / "a.dcm")
    assert [name.casefold()[:16] for name in found.persons] == ["quillfeather^ada"]
    assert text in found.private


def test_a_name_in_a_private_element_without_a_type_is_one(tmp_path: Path) -> None:
    made = Dataset()
    block = made.private_block(0x0009, "ACME", create=True)
    block.add_new(0x10, "PN", "Quillfeather^Ada")
    block.add_new(0x11, "LO", "ADT^A01")
    block.add_new(0x12, "LO", "T-F6800^Embryo^SRT 10^-3")
    assert header_of(made, tmp_path / "a.dcm", implicit=True).persons == ("Quillfeather^Ada",)


def test_the_ids_of_a_header_are_facts_wherever_they_stand(tmp_path: Path) -> None:
    made, other, request = Dataset(), Dataset(), Dataset()
    other.PatientID, other.IssuerOfPatientID = "88-77-66", "WARD-12345"
    request.AccessionNumber, request.RequestedProcedureID = "12/3456", "RP-0042"
    made.OtherPatientIDsSequence, made.RequestAttributesSequence = (
        Sequence([other]),
        Sequence([request]),
    )
    made.AdmissionID, made.StudyID, made.StudyDescription = "55-44-33", "US00017", "66-55-44"
    facts = header_of(made, tmp_path / "a.dcm").facts
    assert facts["OtherPatientIDs"] == "88-77-66" and facts["StudyID"] == "US00017"
    assert {"WARD-12345", "12/3456", "RP-0042", "55-44-33"} <= set(facts["OtherIDs"].split("\\"))
    assert "66-55-44" not in "".join(facts.values())


@pytest.mark.parametrize(
    "keyword", ["StudyDescription", "SeriesDescription", "ProtocolName", "StageName", "ViewName"]
)
def test_a_description_is_private_where_it_holds_a_name_of_its_header(
    tmp_path: Path, keyword: str
) -> None:
    made = Dataset()
    made.RequestingPhysician = "OKONKWO^LI"
    for text, private in (
        ("twins of okonkwo", True),
        ("Growth scan Li", False),
        ("Growth scan", False),
    ):
        setattr(made, keyword, text)
        assert (text in header_of(made, tmp_path / "a.dcm").private) == private
    made.RequestingPhysician = "Hospital^Test^View"
    setattr(made, keyword, "hospital view")
    assert "hospital view" not in header_of(made, tmp_path / "a.dcm").private


def test_the_gate_finds_the_persons_of_a_header(tmp_path: Path) -> None:
    made = Dataset()
    made.RequestingPhysician, made.StudyDescription = "Okonkwo^Ada", "consult Quillfeather^Mary"
    found = header_of(made, tmp_path / "a.dcm")
    private = collect(found.private, VOCABULARY, found.persons, PROSE)
    for text in ("A femur, seen by Dr. Okonkwo.", "Mary Quillfeather", "note_quillfeather.txt"):
        assert private.found_in(text)
    assert not private.found_in("A femur.")


def test_no_text_of_a_header_reaches_a_column(tmp_path: Path) -> None:
    made = Dataset()
    for keyword in (*TEXTS, *PERSONS):
        setattr(made, keyword, "Zzyzx")
    path = tmp_path / "a.dcm"
    write_dicom(path, NOISE)
    whole = dcmread(path)
    whole.update(made)
    dcmwrite(path, whole, enforce_file_format=True)
    task = AnalysisTask(
        str(tmp_path).encode(), b"key", tmp_path / "f", tmp_path / "q", QualityConfig()
    )
    (row,) = analyze(task, str(path).encode())
    shown = {
        name: row.get(name) for name in IMAGES.columns if "zzyzx" in str(row.get(name)).casefold()
    }
    assert shown == {} and "Zzyzx" in row["persons"]


@pytest.mark.parametrize(
    ("vr", "value", "private"),
    [
        ("CS", "P4711223", "P4711223"),
        ("CS", "LINDQVIST EVA", "LINDQVIST EVA"),
        ("CS", "LINEAR", None),
        ("CS", "MODE 2D 12", None),
        ("CS", ["PROBE", "A_19840321"], "A_19840321"),
        ("IS", "4711223", "4711223"),
        ("IS", ["3", "19840321"], "19840321"),
        ("IS", "47112", None),
        ("IS", "3500000", None),
        ("DS", "19840321", "19840321"),
        ("DS", "4711223.0", "4711223"),
        ("DS", "0.19840321", None),
        ("DS", "1.5e9", None),
    ],
)
def test_private_codes_and_numbers_count_where_they_are_as_long_as_an_id_or_hold_a_name(
    tmp_path: Path, vr: str, value: str | list[str], private: str | None
) -> None:
    made = Dataset()
    made.PatientName = "LINDQVIST^ANNA"
    made.private_block(0x0019, "PLACES", create=True).add_new(0x01, vr, value)
    header = header_of(made, tmp_path / "a.dcm")
    values = {value} if isinstance(value, str) else set(value)
    found = {value for value in (*values, private) if value in header.private}
    assert found == ({private} if private else set())
