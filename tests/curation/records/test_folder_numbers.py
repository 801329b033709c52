"""A folder that is a plain number may count patients, exams, series or days."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sono.curation.core.planes import PlaneTable
from sono.curation.records.evidence import FileFacts, Match
from sono.curation.records.joins import join
from sono.curation.records.read import RecordsConfig, read_records

ROOT = b"/raw"
UNDECIDED = ("no_record", "record_ambiguous")


def _join(folder: Path, text: str, *paths: str, match_folders: bool = True) -> list[Match]:
    (folder / "records.csv").write_text(text)
    config = RecordsConfig(match_folders=match_folders)
    table = read_records(folder / "records.csv", config, PlaneTable())
    return join([FileFacts(f"/raw/{path}".encode(), root=ROOT) for path in paths], table)


def _patients(matches: list[Match]) -> list[str | None]:
    return [match.patient for match in matches]


# `match_folders`: the name of a folder is an id


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        ("12,\n3,\n", "12/3/a.png"),  # patient 12, exam 3; or patient 3
        ("12,\n3,\n", "3/12/a.png"),
        ("12,\n", "5/12/a.png"),
        ("12,\n", "12/5/a.png"),
        ("12,\n", "2024/12/a.png"),  # a month
        ("12,\n", "2024/05/12/a.png"),  # a day
        ("12,\n", "2024-05/12/a.png"),
        ("4711,\n5822,\n", "4711/5822/a.png"),
        ("W10001,\nW20002,\n", "W10001/W20002/a.png"),
        ("12,\n012,\n", "12/a.png"),
        ("12,\n7,12\n", "12/a.png"),  # a patient and an exam of another
        (",12\n12,\n", "12/a.png"),  # a patient and an exam of nobody
        ("7,E1\n8,E2\n", "E1/E2/a.png"),
        ("7,E1\n8,\n", "8/E1/a.png"),
    ],
)
def test_folders_that_may_be_several_ids_are_none(tmp_path: Path, rows: str, path: str) -> None:
    (match,) = _join(
        tmp_path, f"MRN,study,center\n{rows.replace(chr(10), f',North{chr(10)}')}", path
    )
    assert (match.patient, match.record, match.codes) == (None, None, UNDECIDED)
    assert "folder" in match.why and match.rows


@pytest.mark.parametrize(
    ("rows", "paths"),
    [
        ("12,\n", ("A/12/a.png", "B/12/b.png")),  # two hospitals
        ("12,\n", ("A/12/a.png", "A/x/12/b.png")),
        ("12,\n", ("12/a.png", "012/b.png")),
        ("4711,\n", ("2023/4711/a.png", "2024/4711/b.png")),
    ],
)
def test_a_number_of_several_folders_is_the_id_of_none(
    tmp_path: Path, rows: str, paths: tuple[str, ...]
) -> None:
    matches = _join(tmp_path, f"MRN,study\n{rows}", *paths)
    assert _patients(matches) == [None, None]
    assert all(
        match.codes == UNDECIDED for match in matches if match.file.path != b"/raw/012/b.png"
    )


@pytest.mark.parametrize(
    ("rows", "path", "patient"),
    [
        ("12,\n", "12/a.png", "12"),
        ("12,\n", "A/12/a.png", "12"),
        ("12,\n", "A/12/left/a.png", "12"),
        ("4711,\n12,\n", "4711/12/a.png", "4711"),  # 12 counts exams
        ("4711,\n", "2024/05/4711/a.png", "4711"),
        ("W10001,\n12,\n", "W10001/12/a.png", "W10001"),
        ("12,12\n", "12/a.png", None),  # one row: the exam of a patient
        ("7,E1\n", "7/E1/a.png", None),
    ],
)
def test_the_only_id_among_the_folders_is_the_files(
    tmp_path: Path, rows: str, path: str, patient: str | None
) -> None:
    (match,) = _join(tmp_path, f"MRN,study\n{rows}", path)
    assert match.met and match.patient is not None
    assert match.patient.upper() == (patient or rows.split(",", maxsplit=1)[0])


def test_a_long_id_may_have_several_folders(tmp_path: Path) -> None:
    paths = ("2023/W10001/a.png", "2024/W10001/b.png", "x/4711815/c.png", "y/4711815/d.png")
    matches = _join(tmp_path, "MRN,center\nW10001,North\n4711815,North\n", *paths)
    assert [match.center for match in matches] == ["North"] * 4


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """The patients of a table, and the patient of each path, whose folders have the id and more."""
    ids = st.sampled_from(["1", "2", "3", "12", "012", "0012", "101", "2023", "4711", "47115"])
    counters = st.sampled_from(["1", "2", "3", "12", "2023", "2024", "20240112", "2024-01"])
    layout = draw(st.permutations(["patient", *draw(st.lists(st.just("other"), max_size=2))]))
    files = {}
    for number in range(draw(st.integers(1, 5))):
        patient = draw(ids)
        folders = [patient if part == "patient" else draw(counters) for part in layout]
        files["/".join((*folders, f"{number}.png"))] = patient
    return draw(st.lists(ids, min_size=1, max_size=4, unique=True)), files


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees())
def test_no_file_is_given_to_the_patient_of_a_counter(
    tmp_path_factory: pytest.TempPathFactory, tree: tuple[list[str], dict[str, str]]
) -> None:
    known, files = tree
    folder = tmp_path_factory.mktemp("tree")
    rows = "".join(f"{patient},North\n" for patient in known)
    for match, patient in zip(
        _join(folder, f"MRN,center\n{rows}", *files), files.values(), strict=True
    ):
        assert match.patient in (None, patient)


# A row that names a file by its name


@pytest.mark.parametrize("folder", ["13", "013", "0013"])
def test_a_folder_with_the_number_of_another_rows_patient_contradicts_a_row(
    tmp_path: Path, folder: str
) -> None:
    text = "file,patient\nIM_1.png,12\nIM_2.png,13\n"
    matches = _join(tmp_path, text, f"{folder}/IM_1.png", "x/IM_3.png", match_folders=False)
    assert _patients(matches) == [None, None] and "record_conflict" in matches[0].codes
    assert "patient id of line 3" in matches[0].why


@pytest.mark.parametrize("name", ["12", "012"])
def test_a_row_is_not_applied_in_another_folder_than_that_of_its_patients_number(
    tmp_path: Path, name: str
) -> None:
    text = "file,patient\nIM_1.png,12\nIM_2.png,12\n"
    matches = _join(tmp_path, text, "7/IM_1.png", f"{name}/IM_2.png", match_folders=False)
    assert _patients(matches) == [None, "12"]
    assert "record_conflict" in matches[0].codes and "another folder" in matches[0].why
    matches = _join(tmp_path, text, "7/IM_1.png", "8/IM_2.png", match_folders=False)
    assert _patients(matches) == ["12", "12"]  # counters
    text = "file,patient\n7/IM_1.png,12\nIM_2.png,12\n"
    matches = _join(tmp_path, text, "7/IM_1.png", "12/IM_2.png", match_folders=False)
    assert _patients(matches) == ["12", "12"]  # the row's own path
