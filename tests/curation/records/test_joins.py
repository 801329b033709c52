"""Rows and files belong together only by evidence that is one to one.

Whatever is left out has a reason.
"""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sono.curation.core.planes import PlaneTable
from sono.curation.records.evidence import FileFacts, Match
from sono.curation.records.joins import join
from sono.curation.records.read import RecordsConfig, RecordsTable, read_records

PLANES = PlaneTable()


def _table(tmp_path: Path, text: str, **config: object) -> RecordsTable:
    (tmp_path / "records.csv").write_text(text)
    return read_records(tmp_path / "records.csv", RecordsConfig.model_validate(config), PLANES)


def _file(name: str, patient: str | None = None, day: str | None = None, **more: str) -> FileFacts:
    return FileFacts(f"/raw/{name}".encode(), patient, exam_date=day, **more)


def _join(tmp_path: Path, text: str, *files: FileFacts, **config: object) -> list[Match]:
    return join(files, _table(tmp_path, text, **config))


def _lines(matches: list[Match]) -> list[int | None]:
    return [match.record.line if match.record else None for match in matches]


# A bare name is no identity


@pytest.mark.parametrize(
    ("rows", "files"),
    [
        ("IM_1.png,W1,femur", ("P1/IM_1.png", "P2/IM_1.png")),
        ("IM_1,W1,femur", ("P1/IM_1.png", "P1/IM_1.jpg")),
        ("P1/IM_1.png,W1,femur", ("a/P1/IM_1.png", "b/P1/IM_1.png")),
        ("/old/P1/IM_1.png,W1,femur", ("a/P1/IM_1.png", "b/P1/IM_1.png")),
        ("IM_1.png,W1,femur", ("IM_1.png", "P2/IM_1.png", "P3/x.png")),
        ("IM_1.png,W1,femur\nIM_1.png,W2,femur", ("P1/IM_1.png", "P2/IM_1.png")),
        ("IM_1.png,W1,femur\nIM_1.png,W2,femur", ("P1/IM_1.png",)),
        ("IM_1.png,W1,femur\nP2/IM_1.png,W2,femur", ("P1/IM_1.png",)),
    ],
)
def test_a_name_that_fits_several_serves_none_and_names_the_candidates(
    tmp_path: Path, rows: str, files: tuple[str, ...]
) -> None:
    matches = _join(tmp_path, f"file,patient,plane\n{rows}\n", *map(_file, files))
    named = [match for match in matches if not match.file.path.endswith(b"x.png")]
    if rows.endswith("P2/IM_1.png,W2,femur"):
        assert _lines(named) == [2]  # the other row has a folder, which is not this one
        return
    assert _lines(matches) == [None] * len(files)
    assert all("record_ambiguous" in match.codes and match.rows and match.why for match in named)
    assert all(match.others for match in named if len(match.rows) == 1)


def test_a_folder_in_the_row_decides_and_so_do_copies_of_one_file(tmp_path: Path) -> None:
    text = "file,patient\nP1/IM_1.png,W1\nP2/IM_1.png,W2\n"
    assert _lines(_join(tmp_path, text, _file("P2/IM_1.png"), _file("P1/IM_1.png"))) == [3, 2]
    copies = [_file(f"{place}/IM_1.png", digest="abc") for place in ("a", "b")]
    assert _lines(_join(tmp_path, "file,patient\nIM_1.png,W1\n", *copies)) == [2, 2]
    other = _file("c/IM_1.png", digest="def")
    assert _lines(_join(tmp_path, "file,patient\nIM_1.png,W1\n", *copies, other)) == [
        None,
        None,
        None,
    ]


def test_the_whole_name_goes_before_another_ending(tmp_path: Path) -> None:
    matches = _join(tmp_path, "file,patient\nx.png,W1\n", _file("x.png"), _file("x.jpg"))
    assert _lines(matches) == [2, None]
    assert matches[1].why == "line 2 fits another file better"


def test_the_header_decides_between_files_and_rows_of_one_name(tmp_path: Path) -> None:
    files = [_file(f"{k}/IM_1.dcm", f"W{k}") for k in (1, 2)]
    matches = _join(tmp_path, "file,patient\nIM_1.dcm,W1\n", *files)
    assert _lines(matches) == [2, None]
    assert "record_conflict" in matches[1].codes and "another patient" in matches[1].why
    assert _lines(_join(tmp_path, "file,patient\nIM_1.dcm,W2\nIM_1.dcm,W1\n", *files)) == [3, 2]


def test_a_file_without_an_id_keeps_its_namesakes_from_being_sure(tmp_path: Path) -> None:
    text = "file,patient\nIM_1.dcm,W1\n"
    assert _lines(_join(tmp_path, text, _file("a/IM_1.dcm", "W1"), _file("b/IM_1.dcm"))) == [
        None,
        None,
    ]
    assert _lines(_join(tmp_path, text, _file("a/IM_1.dcm", "W2"), _file("b/IM_1.dcm"))) == [
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("row", "header"),
    [
        ("x.dcm,W1,,", ("W2", None, None)),
        ("x.dcm,W1,1.2.840.1,", ("W1", "1.2.840.2", None)),
        ("x.dcm,,,2024-01-10", (None, None, "2024-01-11")),
        (",W1,1.2.840.1,", ("W2", "1.2.840.1", None)),
    ],
)
def test_a_record_that_contradicts_the_header_is_never_applied(
    tmp_path: Path, row: str, header: tuple[str | None, str | None, str | None]
) -> None:
    (match,) = _join(
        tmp_path,
        f"file,patient,study,exam date,GA\n{row},22w3d\n",
        FileFacts(b"/raw/x.dcm", *header),
    )
    assert match.record is None and match.ga_days is None and match.patient == header[0]
    assert match.codes == ("no_record", "record_conflict")


@pytest.mark.parametrize(
    ("identity", "header"), [("12", "0012"), ("4711", "4711 "), ("w1", "W1"), ("W1", "anonymous")]
)
def test_ids_that_may_be_the_same_are_no_contradiction(
    tmp_path: Path, identity: str, header: str
) -> None:
    (match,) = _join(tmp_path, f"file,patient\nx.dcm,{identity}\n", _file("x.dcm", header))
    assert match.record is not None
    assert match.patient == (identity if header == "anonymous" else header)


def test_many_files_and_rows_of_one_name_are_told_apart_by_their_patients(tmp_path: Path) -> None:
    count = 3000
    text = "file,patient\n" + "".join(f"IM_1.dcm,W{k}\n" for k in range(count))
    files = [_file(f"{k}/IM_1.dcm", f"W{k}") for k in range(count)]
    assert _lines(_join(tmp_path, text, *files)) == [k + 2 for k in range(count)]
    assert set(_lines(_join(tmp_path, text, *(FileFacts(one.path) for one in files)))) == {None}


# A fact of one day stays on that day

VISITS = "MRN,Exam date,GA,HC,Findings\n77,2024-01-10,20w0d,175,cyst\n77,2024-03-20,30w0d,280,\n"


def test_visits_of_a_patient_are_told_apart_by_date(tmp_path: Path) -> None:
    files = [
        _file("a.dcm", "77", "2024-03-20"),
        _file("b.dcm", "77", "2024-01-10"),
        _file("c.dcm", "77", "2024-02-01"),
    ]
    matches = _join(tmp_path, VISITS, *files)
    assert _lines(matches) == [3, 2, None]
    assert [match.ga_days for match in matches] == [210, 140, None]
    assert matches[2].codes == ("exam_undecided",) and "none of lines 2, 3" in matches[2].why
    assert matches[2].patient == "77"


def test_the_tolerance_in_days_is_a_setting_and_the_nearest_row_counts(tmp_path: Path) -> None:
    text = "MRN,Exam date,GA\n77,2024-01-10,20w0d\n77,2024-01-14,20w4d\n"
    days = ("2024-01-11", "2024-01-12", "2024-01-13", "2024-01-20")
    files = [_file(f"{day}.dcm", "77", day) for day in days]
    assert _lines(_join(tmp_path, text, *files)) == [None] * 4
    assert _lines(_join(tmp_path, text, *files, date_tolerance_days=3)) == [2, None, 3, None]


@pytest.mark.parametrize("dated", ["row", "file", "neither"])
def test_where_no_date_decides_between_exams_nothing_of_the_day_is_stored(
    tmp_path: Path, dated: str
) -> None:
    days = ["2024-01-10", "2024-03-20"] if dated == "file" else [None, None]
    files = [_file(f"{k}.dcm", "77", day, study=f"1.2.840.{k}") for k, day in enumerate(days)]
    row = "77,2024-01-10,20w0d,femur" if dated == "row" else "77,,20w0d,femur"
    for match in _join(tmp_path, f"MRN,Exam date,GA,Plane\n{row}\n", *files):
        assert (match.record, match.ga_days, match.codes) == (None, None, ("exam_undecided",))
        assert match.why


@pytest.mark.parametrize("day", ["2024-01-10", None])
@pytest.mark.parametrize("row", ["77,,20w0d", "77,2024-01-11,20w0d"])
def test_an_only_row_and_an_only_exam_are_no_evidence_that_they_are_of_one_day(
    tmp_path: Path, row: str, day: str | None
) -> None:
    (match,) = _join(tmp_path, f"MRN,Exam date,GA,center\n{row},North\n", _file("a.dcm", "77", day))
    assert (match.record, match.ga_days, match.codes) == (None, None, ("exam_undecided",))
    assert (match.patient, match.center) == ("77", "North") and "line 2" in match.why


def test_an_unreadable_exam_date_is_not_the_same_as_none(tmp_path: Path) -> None:
    (match,) = _join(
        tmp_path, "MRN,Exam date,GA\n77,spring,20w0d\n", _file("a.dcm", "77", "2024-01-10")
    )
    assert (match.record, match.ga_days) == (None, None)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("MRN,EDD", "77,2024-05-29"),
        ("MRN,LMP", "77,2023-08-23"),
        ("MRN,EDD,Visit date", "77,2024-05-29,2023-11-15"),
        ("MRN,EDD,Visit date,GA", "77,2024-05-29,2023-11-15,12w0d"),
        ("file,MRN,EDD,Visit date", "a.dcm,77,2024-05-29,2023-11-15"),
        ("MRN,study,EDD,Visit date", "77,1.2.840.9,2024-05-29,2023-11-15"),
        ("MRN,EDD", "77,2024-05-29\n77,2022-01-30\n78,2024-01-01"),
    ],
)
def test_due_date_and_last_period_count_to_the_files_own_day(
    tmp_path: Path, header: str, row: str
) -> None:
    files = [FileFacts(b"/raw/a.dcm", "77", "1.2.840.9", "2024-01-10")]
    if not header.startswith("file") and "study" not in header:
        files.append(FileFacts(b"/raw/b.dcm", "77", "1.2.840.8", "2024-03-20"))
    assert [match.ga_days for match in _join(tmp_path, f"{header}\n{row}\n", *files)] == [140, 210][
        : len(files)
    ]


def test_two_due_dates_that_fit_one_exam_leave_the_age_unknown(tmp_path: Path) -> None:
    (match,) = _join(
        tmp_path, "MRN,EDD\n77,2024-05-29\n77,2024-06-20\n", _file("a.dcm", "77", "2024-01-10")
    )
    assert match.ga_days is None and match.codes == ("exam_undecided",)
    assert "lines 2, 3 give different ages" in match.why


def test_without_any_exam_date_a_due_date_gives_no_age_and_a_reason(tmp_path: Path) -> None:
    (match,) = _join(tmp_path, "file,MRN,EDD\na.png,77,2024-05-29\n", _file("a.png"))
    assert match.record is not None and match.ga_days is None
    assert match.codes == ("exam_undecided",) and "no exam date to count from" in match.why


def test_the_date_of_a_files_own_row_serves_where_the_file_has_none(tmp_path: Path) -> None:
    (match,) = _join(
        tmp_path, "file,MRN,EDD,Exam date\na.png,77,2024-05-29,2024-01-10\n", _file("a.png")
    )
    assert (match.ga_days, match.ga_source, match.evidence) == (140, "due", "name")


def test_rows_of_one_name_and_patient_are_told_apart_by_date(tmp_path: Path) -> None:
    text = "file,MRN,Exam date,GA\nIM_1.dcm,77,2024-01-10,20w0d\nIM_1.dcm,77,2024-03-20,30w0d\n"
    files = [_file("v2/IM_1.dcm", "77", "2024-03-20"), _file("v1/IM_1.dcm", "77", "2024-01-10")]
    assert [match.ga_days for match in _join(tmp_path, text, *files)] == [210, 140]
    assert _lines(_join(tmp_path, text, *(_file(f"v{k}/IM_1.png") for k in (1, 2)))) == [None, None]


def test_folders_of_a_patient_stand_for_the_patient_not_for_an_exam(tmp_path: Path) -> None:
    files = (_file("77/a.png"), _file("77/b.png"))
    matches = _join(tmp_path, "MRN,GA\n77,20w0d\n", *files, match_folders=True)
    assert [(match.ga_days, match.patient) for match in matches] == [(None, "77")] * 2
    (by_name, _) = _join(tmp_path, "MRN,GA,file\n77,20w0d,77/a.png\n", *files, match_folders=True)
    assert by_name.ga_days == 140


def test_a_folder_above_the_one_of_the_files_is_no_patient(tmp_path: Path) -> None:
    text = "MRN,Hospital\n77,A\n78,B\n"
    files = [
        replace(_file(name), root=_file("77/raw").path)
        for name in ("77/raw/a.png", "77/raw/78/b.png")
    ]
    assert [match.patient for match in _join(tmp_path, text, *files, match_folders=True)] == [
        None,
        "78",
    ]
    own = replace(files[0], root=_file("77").path)
    assert _join(tmp_path, text, own, match_folders=True)[0].patient == "77"


# Random trees and tables with the truth planted


@dataclass(frozen=True)
class Visit:
    patient: str
    day: date
    due: date
    number: int

    @property
    def ga_days(self) -> int:
        return 280 - (self.due - self.day).days


@dataclass
class World:
    """Files with their visits, the text of a table, and the true subject of each of its lines."""

    files: list[FileFacts] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)  # of the files
    text: str = ""
    about: dict[int, tuple[Visit, str]] = field(default_factory=dict)


@st.composite
def worlds(draw: st.DrawFn, by_name: bool) -> World:
    """Patients with visits, whose rows name files (`by_name`) or visits.

    Any column and header value may be missing.
    """
    visits: list[Visit] = []
    for number in range(draw(st.integers(2, 3))):
        due = date(2024, 6, 1) + timedelta(days=draw(st.integers(0, 60)))
        for day in draw(st.lists(st.integers(70, 270), min_size=1, max_size=3, unique=True)):
            visits.append(
                Visit(f"00{number + 1}7", due - timedelta(days=280 - day), due, len(visits))
            )
    world = World()
    keeps = {
        name: draw(st.integers(0, 9)) < (3 if by_name else 7)
        for name in ("patient", "study", "day")
    }
    names = st.sampled_from(["IM_1.dcm", "IM_1.dcm", "IM_2.dcm", "IM_1.png"])
    paths = []
    for visit in visits:
        for name in draw(st.lists(names, min_size=1, max_size=2, unique=True)):
            folder = draw(
                st.sampled_from(
                    [f"p{visit.patient}/v{visit.number}", f"v{visit.number}", f"x{len(paths)}"]
                )
            )
            header = {key: kept and draw(st.integers(0, 9)) > 0 for key, kept in keeps.items()}
            paths.append(f"{folder}/{name}")
            world.visits.append(visit)
            world.files.append(
                FileFacts(
                    f"/raw/{folder}/{name}".encode(),
                    visit.patient
                    if header["patient"]
                    else draw(st.sampled_from([None, "ANON", ""])),
                    f"1.2.840.{visit.number}" if header["study"] else None,
                    visit.day.isoformat() if header["day"] else None,
                )
            )
    columns = [
        "file" if by_name else draw(st.sampled_from(["patient", "patient", "study"])),
        "plane",
    ]
    columns += [
        name
        for name in ("patient", "study", "exam date", "GA", "EDD", "HC")
        if name not in columns and draw(st.integers(0, 9)) < 5
    ]
    lines = [",".join(columns)]
    depth, absolute, whole = (
        draw(st.sampled_from([1, 1, 1, 2, 3])),
        draw(st.integers(0, 3)) == 0,
        draw(st.booleans()),
    )
    subjects = (
        list(zip(world.visits, paths, strict=True))
        if by_name
        else [(visit, "") for visit in visits]
    )
    for visit, path in draw(st.permutations(subjects)):
        if draw(st.integers(0, 2)) == 0:  # a file or visit without a row
            continue
        # A booking date shows against a file's own study date; for a file without one the date in
        # its row is the date.
        own = [facts for facts, of in zip(world.files, world.visits, strict=True) if of == visit]
        booking = draw(st.integers(0, 9)) == 0 and all(facts.exam_date for facts in own)
        booking = booking and "GA" not in columns and "HC" not in columns
        cells = {
            "file": "/".join(path.split("/")[-depth:]) if not absolute else f"/old/{path}",
            "patient": visit.patient.lstrip("0") if draw(st.integers(0, 9)) == 0 else visit.patient,
            "study": f"1.2.840.{visit.number}" if whole else f"E{visit.number}",
            "exam date": (visit.due - timedelta(days=200) if booking else visit.day).isoformat(),
            "GA": f"{visit.ga_days // 7}w{visit.ga_days % 7}d",
            "EDD": visit.due.isoformat(),
            "HC": str(100 + visit.number),
            "plane": "femur",
        }
        row = {
            name: cells[name] if name in ("file", "plane") or draw(st.integers(0, 9)) else ""
            for name in columns
        }
        lines.append(",".join(row[name] for name in columns))
        world.about[len(lines)] = (visit, path)
    world.text = "\n".join(lines) + "\n"
    return world


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=st.one_of(worlds(True), worlds(False)), tolerance=st.sampled_from([0, 0, 1]))
def test_no_assignment_is_false_and_nothing_is_left_out_without_a_reason(
    tmp_path_factory: pytest.TempPathFactory, world: World, tolerance: int
) -> None:
    if not world.about or not world.files:
        return
    folder = tmp_path_factory.mktemp("world")
    table = _table(folder, world.text, date_tolerance_days=tolerance)
    matches = join(world.files, table)
    assert len(matches) == len(world.files)
    for match, visit, facts in zip(matches, world.visits, world.files, strict=True):
        if match.record is not None:
            of, path = world.about[match.record.line]
            assert of == visit or (
                of.patient == visit.patient and abs((of.day - visit.day).days) <= tolerance
            )
            assert facts.path.endswith(path.encode())
        else:
            assert match.why or match.evidence
            assert match.codes or not any(
                row.stated or row.hc_mm or row.plane for row in match.rows
            )
        assert match.ga_days is None or abs(match.ga_days - visit.ga_days) <= tolerance
        assert match.patient in (None, visit.patient, visit.patient.lstrip("0"), "ANON", "")
    rows = [match.record for match in matches if match.record and match.record.kind != "image"]
    planes = [row.line for row in rows if row.plane]
    assert len(planes) == len(set(planes))  # a plane belongs to one image
