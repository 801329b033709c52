"""An age that is counted to the study date of a header whose dates contradict each other."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom

from sono.curation.core.planes import PlaneTable
from sono.curation.readers.files import peek_source
from sono.curation.records.evidence import FileFacts, Match
from sono.curation.records.joins import join
from sono.curation.records.read import RecordsConfig, read_records


def _facts(folder: Path, **dates: str) -> FileFacts:
    path = folder / "a.dcm"
    write_dicom(path, np.zeros((8, 8), np.uint8), PatientID="W70007", **dates)
    source = peek_source(bytes(path))
    assert source is not None
    return FileFacts(
        bytes(path),
        source.header.patient,
        source.header.study,
        source.header.exam_date,
        header=source.header.facts,
    )


def _match(folder: Path, text: str, **dates: str) -> Match:
    (folder / "records.csv").write_text(text)
    table = read_records(folder / "records.csv", RecordsConfig(), PlaneTable())
    return join([_facts(folder, **dates)], table)[0]


DATES = (
    {"AcquisitionDate": "20230805"},
    {"AcquisitionDateTime": "20230805101500"},
    {"ContentDate": "20230805"},
    {"AcquisitionDate": "20240118", "ContentDate": "20240110"},
)


@pytest.mark.parametrize("other", DATES)
@pytest.mark.parametrize(
    "text",
    [
        "MRN,EDD\nW70007,2024-05-29\n",
        "MRN,LMP\nW70007,2023-08-23\n",
        "file,MRN,EDD\na.dcm,W70007,2024-05-29\n",
        "MRN,EDD,Exam date\nW70007,2024-05-29,2023-11-15\n",
    ],
)
def test_two_dates_of_a_header_that_give_two_ages_leave_the_age_unknown(
    tmp_path: Path, text: str, other: dict[str, str]
) -> None:
    match = _match(tmp_path, text, StudyDate="20240110", **other)
    assert (match.ga_days, match.ga_source, match.codes) == (None, None, ("exam_undecided",))
    days = 8 if "AcquisitionDate" in other and "ContentDate" in other else 158
    assert f"its study and acquisition dates are {days} days apart" in match.why
    assert match.patient == "W70007"


@pytest.mark.parametrize(
    "dates",
    [
        {},
        {"AcquisitionDate": "20240117"},
        {"AcquisitionDate": "20240110", "ContentDate": "20240601"},
        {"AcquisitionDate": "00000000"},
        {"AcquisitionDate": "19000101"},
        {"AcquisitionDateTime": "2023"},
        {"ContentDate": "99991231"},
    ],
)
def test_dates_of_one_week_and_impossible_ones_do_not_contradict_each_other(
    tmp_path: Path, dates: dict[str, str]
) -> None:
    match = _match(tmp_path, "MRN,EDD\nW70007,2024-05-29\n", StudyDate="20240110", **dates)
    assert (match.ga_days, match.codes) == (140, ())


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("MRN,EDD,Exam date\nW70007,2024-05-29,2024-01-10\n", 140),  # the row confirms the day
        ("MRN,GA,Exam date\nW70007,20w1d,2024-01-10\n", 141),
        ("file,GA,EDD\na.dcm,20w1d,2024-05-29\n", 141),  # counted from no date
    ],
)
def test_an_age_that_does_not_depend_on_the_doubtful_date_is_kept(
    tmp_path: Path, text: str, age: int
) -> None:
    assert _match(tmp_path, text, StudyDate="20240110", AcquisitionDate="20230805").ga_days == age
