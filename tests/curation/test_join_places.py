"""A row of one picture, folder or day gives nothing to the files of another one."""

from pathlib import Path

import pytest

from sono.curation.planes import PlaneTable
from sono.curation.records.evidence import FileFacts, Match
from sono.curation.records.joins import join
from sono.curation.records.read import RecordsConfig, RecordsTable, read_records

CONFLICT = ("no_record", "record_conflict")


def _table(tmp_path: Path, text: str, **config: object) -> RecordsTable:
    (tmp_path / "records.csv").write_text(text)
    return read_records(tmp_path / "records.csv", RecordsConfig.model_validate(config), PlaneTable())


def _file(name: str, day: str | None = None, patient: str | None = None, **header: str) -> FileFacts:
    return FileFacts(f"/raw/{name}".encode(), patient, header.pop("study", None), day, header=header)


def _join(tmp_path: Path, text: str, *files: FileFacts, **config: object) -> list[Match]:
    return join(files, _table(tmp_path, text, **config))


# A row without an image in a table of images


@pytest.mark.parametrize(
    ("column", "cell", "header"),
    [
        ("patient,exam date", "W10001,2024-01-10", {"patient": "W10001", "day": "2024-01-10"}),
        ("study uid", "1.2.840.3", {"study": "1.2.840.3"}),
        ("accession", "A77001", {"AccessionNumber": "A77001"}),
    ],
)
@pytest.mark.parametrize("blank", ["", "n/a"])
def test_a_row_without_an_image_in_a_table_of_images_gives_facts_of_the_exam_alone(
    tmp_path: Path, column: str, cell: str, header: dict[str, str], blank: str
) -> None:
    text = f"file,{column},GA,plane,HC,side\na.dcm,{cell},20w0d,femur,,\n{blank},{cell},20w0d,transthalamic,180,left\n"
    table = _table(tmp_path, text)
    first, second = join([_file("a.dcm", **header), _file("b.dcm", **header)], table)
    assert first.record is not None and first.record.plane == "femur"
    assert second.record is not None and second.ga_days == 140
    found = second.record
    assert (found.plane, found.region, found.hc_mm, found.laterality) == (None, None, None, None)
    assert any(":3: names no image" in problem and "plane, laterality, hc" in problem for problem in table.rejected)


def test_a_table_of_exams_keeps_what_it_says_of_them_with_an_empty_column_of_images(tmp_path: Path) -> None:
    text = "file,patient,exam date,plane,HC\n,W10001,2024-01-10,transthalamic,180\n"
    table = _table(tmp_path, text)
    record = join([_file("b.dcm", "2024-01-10", "W10001")], table)[0].record
    assert record is not None and (record.plane, record.hc_mm) == ("transthalamic", 180.0) and not table.rejected
