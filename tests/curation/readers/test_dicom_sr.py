"""Structured reports of obstetric ultrasound.

Their values are read in days and mm, and written to the right frames.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers.dicom import read_dicom
from sono.curation.readers.dicom_sr import is_report, read_report
from sono.curation.records.sr_values import apply_reports

BPD, HC, AC, FL = ("11820-8", "LN"), ("11984-2", "LN"), ("11979-2", "LN"), ("11963-6", "LN")
CRL, NT, AGE, COMPOSITE = ("11957-8", "LN"), ("33069-6", "LN"), ("18185-9", "LN"), ("11888-5", "LN")
DUE, PERIOD, FETUS = ("11778-8", "LN"), ("11955-2", "LN"), ("11951-1", "LN")
REPORT, SUMMARY, BIOMETRY, GROUP = (
    ("125000", "DCM"),
    ("121111", "DCM"),
    ("125002", "DCM"),
    ("125005", "DCM"),
)
SELECTION, DERIVATION, MEAN = ("121404", "DCM"), ("121401", "DCM"), ("373098007", "SCT")


def code(pair: tuple[str, str]) -> Sequence:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = *pair, "meaning"
    return Sequence([made])


def node(kind: str, concept: tuple[str, str], *children: Dataset) -> Dataset:
    made = Dataset()
    made.ValueType, made.ConceptNameCodeSequence = kind, code(concept)
    made.RelationshipType = "CONTAINS"
    if children:
        made.ContentSequence = Sequence(children)
    return made


def measured(concept: tuple[str, str], value: float, unit: str, *children: Dataset) -> Dataset:
    made, number = node("NUM", concept, *children), Dataset()
    number.NumericValue, number.MeasurementUnitsCodeSequence = str(value), code((unit, "UCUM"))
    made.MeasuredValueSequence = Sequence([number])
    return made


def note(concept: tuple[str, str], value: tuple[str, str]) -> Dataset:
    made = node("CODE", concept)
    made.ConceptCodeSequence = code(value)
    return made


def dated(concept: tuple[str, str], value: str) -> Dataset:
    made = node("DATE", concept)
    made.Date = value
    return made


def fetus(name: str) -> Dataset:
    made = node("TEXT", FETUS)
    made.TextValue = name
    return made


def report(*content: Dataset, patient: str = "P-0001", study: str = "1.2.3.4") -> Dataset:
    made = node("CONTAINER", REPORT, *content)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = ComprehensiveSRStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3.5"
    made.Modality, made.PatientID, made.StudyInstanceUID, made.StudyDate = (
        "SR",
        patient,
        study,
        "20240610",
    )
    made.PatientName = "Musterfrau^Erika"
    return made


def summary(*content: Dataset) -> Dataset:
    return node("CONTAINER", SUMMARY, *content)


def biometry(*content: Dataset) -> Dataset:
    return node("CONTAINER", BIOMETRY, node("CONTAINER", GROUP, *content))


def stored(made: Dataset) -> bytes:
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_lengths_come_in_mm_and_ages_in_days() -> None:
    made = report(
        summary(measured(AGE, 22.43, "wk")),
        biometry(
            measured(BPD, 5.21, "cm"),
            measured(HC, 191, "mm"),
            measured(AC, 0.17, "m"),
            measured(FL, 37400, "um"),
        ),
        biometry(measured(CRL, 61.5, "mm"), measured(NT, 1.8, "mm")),
    )
    assert is_report(made)
    assert read_report(made) == {
        "ga_days": 157, "bpd_mm": 52.1, "hc_mm": 191.0, "ac_mm": 170.0, "fl_mm": 37.4,
        "crl_mm": 61.5, "nt_mm": 1.8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "days"),
    [
        ([dated(DUE, "20241015")], 153),  # 280 - 127 days to go
        ([dated(PERIOD, "20240109")], 153),
        ([dated(DUE, "20241015"), dated(PERIOD, "20240101")], 153),  # the due date was corrected
        ([dated(DUE, "20241015"), measured(AGE, 150, "d")], 150),
        ([measured(COMPOSITE, 149, "d")], 149),
        ([dated(DUE, "20241015"), measured(COMPOSITE, 149, "d")], 153),
        ([dated(DUE, "20301015")], None),
        ([dated(DUE, "soon")], None),
        ([measured(AGE, 150, "mm")], None),
        ([measured(AGE, 320, "d")], None),
        ([measured(AGE, 150, "d"), measured(AGE, 157, "d")], None),
    ],
)
def test_the_age_is_as_stated_else_by_dates_else_by_biometry(
    content: list[Dataset], days: int | None
) -> None:
    assert read_report(report(summary(*content))).get("ga_days") == days


def test_an_age_beside_a_measurement_is_not_that_of_the_pregnancy() -> None:
    assert read_report(report(biometry(measured(BPD, 52, "mm"), measured(AGE, 150, "d")))) == {
        "bpd_mm": 52
    }
    inferred = measured(BPD, 52, "mm", measured(AGE, 150, "d"))
    assert read_report(report(summary(inferred))) == {"bpd_mm": 52}


def test_of_repeated_measurements_the_selected_then_the_mean_counts() -> None:
    mean = measured(BPD, 52, "mm", note(DERIVATION, MEAN))
    chosen = measured(BPD, 54, "mm", note(SELECTION, ("121410", "DCM")))
    once, twice = measured(BPD, 51, "mm"), measured(BPD, 53, "mm")
    assert read_report(report(biometry(once, twice, mean, chosen))) == {"bpd_mm": 54}
    assert read_report(report(biometry(once, twice, mean))) == {"bpd_mm": 52}
    assert read_report(report(biometry(once, twice))) == {}
    assert read_report(report(biometry(once, measured(BPD, 5.1, "cm")))) == {"bpd_mm": 51}


def test_twins_unknown_units_and_impossible_lengths_are_left_out() -> None:
    one, other = (
        biometry(fetus("A"), measured(BPD, 52, "mm")),
        biometry(fetus("B"), measured(BPD, 50, "mm")),
    )
    assert read_report(report(one, other, summary(measured(AGE, 150, "d")))) == {"ga_days": 150}
    assert read_report(report(one, biometry(fetus("A"), measured(FL, 30, "mm")))) == {
        "bpd_mm": 52,
        "fl_mm": 30,
    }
    assert read_report(report(biometry(measured(BPD, 52, "[in_i]"), measured(FL, 300, "mm")))) == {}


def test_broken_items_cost_only_themselves() -> None:
    empty = node("NUM", BPD)
    nothing = Dataset()
    assert read_report(report(biometry(empty, nothing, measured(FL, 30, "mm")))) == {"fl_mm": 30}
    assert not is_report(Dataset())


def test_a_report_is_a_row_with_its_values_and_a_private_name() -> None:
    source = read_dicom(stored(report(biometry(fetus("Cephalic"), measured(FL, 30, "mm")))))
    assert source.codes == ("structured_report",) and not source.frames
    assert source.report == {"fl_mm": 30}
    assert "Musterfrau^Erika" in source.header.private and "Cephalic" not in source.header.private
    other = report()
    other.ConceptNameCodeSequence = code(("126000", "DCM"))
    assert read_dicom(stored(other)).codes == ("no_pixels",)


def row(
    patient: str | None, study: str | None, codes: list[str], **values: object
) -> dict[str, Any]:
    empty = dict.fromkeys(("raw_exam_date", "file_sha256", "header_facts", "namespace"))
    return {
        "path": b"",
        "root": b"",
        "file_patient": patient,
        "file_study": study,
        "reasons": codes,
        **empty,
        **values,
    }


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"PatientBirthDate": "19900101"}, {"PatientBirthDate": "19850505"}),
        ({"PatientName": "DOE^JANE"}, {"PatientName": "ROE^MARY"}),
        ({"InstitutionName": "North Hospital"}, {"InstitutionName": "South Hospital"}),
        ({"raw_exam_date": "2024-06-10"}, {"raw_exam_date": "2020-01-01"}),
    ],
)
@pytest.mark.parametrize("patient", ["W1", "", "UNKNOWN"])
def test_a_report_of_another_person_or_day_is_not_applied(
    patient: str, own: dict[str, str], said: dict[str, str]
) -> None:
    def made(codes: list[str], facts: dict[str, str], **values: object) -> dict[str, Any]:
        day = facts.get("raw_exam_date")
        return row(patient, "1.2.3", codes, header_facts=json.dumps(facts)) | {
            "raw_exam_date": day,
            **values,
        }

    frame, same = made([], own), made([], said)
    other = made(["structured_report"], said, ga_days=157, hc_mm=200.0)
    for _ in range(2):
        assert apply_reports([frame, same, other]) in (0, 1)
        assert (frame.get("ga_days"), frame.get("hc_mm"), frame["reasons"]) == (
            None,
            None,
            ["report_conflict"],
        )
        assert (same["ga_days"], same["ga_source"], same["hc_mm"], same["reasons"]) == (
            157,
            "report",
            200.0,
            [],
        )


@pytest.mark.parametrize(
    ("values", "age", "codes"),
    [
        ({"hc_mm": 290.0}, (157, "report"), ["ga_conflict"]),
        ({"hc_mm": 200.0}, (157, "report"), []),
        ({"ga_days": 210, "ga_source": "recorded"}, (210, "recorded"), ["ga_conflict"]),
        ({"ga_days": 160, "ga_source": "due"}, (160, "due"), []),
    ],
)
def test_an_age_that_report_and_record_contradict_each_other_in_is_flagged(
    values: dict[str, object], age: tuple[int, str], codes: list[str]
) -> None:
    frame, said = row("p", "s", [], **values), row("p", "s", ["structured_report"], ga_days=157)
    for _ in range(2):
        apply_reports([frame, said])
        assert ((frame["ga_days"], frame["ga_source"]), sorted(set(frame["reasons"]))) == (
            age,
            codes,
        )


def test_frames_take_what_their_record_lacks_from_the_report_of_their_study() -> None:
    said = row("p", "s", ["structured_report"], ga_days=150, fl_mm=30.0, bpd_mm=50.0)
    again = row("p", "s", ["structured_report"], ga_days=150, bpd_mm=51.0)
    frame, other, known = row("p", "s", []), row("q", "s", []), row("p", "s", [], ga_days=148)
    assert apply_reports([frame, said, other, again, known]) == 2
    assert (frame["ga_days"], frame["fl_mm"], "bpd_mm" in frame) == (150, 30.0, False)
    assert "ga_days" not in other and known["ga_days"] == 148
    assert (
        apply_reports([row("p", None, ["structured_report"], ga_days=150), row("p", None, [])]) == 0
    )


def ultrasound(patient: str, study: str) -> Dataset:
    random = np.random.default_rng(int(patient[-1]))
    down, across = np.mgrid[0:240, 0:320]
    fan = (np.abs(across - 160) < 20 + 0.5 * down) & (down > 15) & (down < 220)
    made = report(patient=patient, study=study)
    for name in ("ContentSequence", "ValueType", "ConceptNameCodeSequence", "RelationshipType"):
        if name in made:
            delattr(made, name)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    made.Modality, made.Rows, made.Columns = "US", 240, 320
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = (
        np.where(fan, random.integers(20, 220, fan.shape), 0).astype(np.uint8).tobytes()
    )
    return made


def test_qc_writes_the_report_on_the_frames_and_a_second_run_changes_nothing(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    content = summary(measured(AGE, 150, "d")), biometry(measured(FL, 30, "mm"))
    (raw / "report.dcm").write_bytes(stored(report(*content)))
    (raw / "own.dcm").write_bytes(stored(ultrasound("P-0001", "1.2.3.4")))
    (raw / "other.dcm").write_bytes(stored(ultrasound("P-0002", "1.2.9.9")))
    records = tmp_path / "records.csv"
    records.write_text("file,patient,fl\nown.dcm,P-0001,31\n")
    study = Workspace.create(tmp_path / "study")
    for options in (QcOptions(raw), QcOptions(raw, records), QcOptions(raw, records)):
        run_qc(study, options, Engine(jobs=1))
        images = study.images()
        values = sorted(
            zip(
                images["ga_days"].fillna(0),
                images["fl_mm"].fillna(0),
                images["status"],
                strict=True,
            )
        )
        own = 31.0 if options.records else 30.0
        assert values[0][:2] == (0, 0) and [value[:2] for value in values[1:]] == sorted(
            [(150, 30.0), (150, own)]
        )
        assert sum(status == "rejected" for *_, status in values) == 1


def test_the_order_of_runs_does_not_count_and_a_report_that_is_gone_gives_nothing(
    tmp_path: Path,
) -> None:
    for folder in ("frames", "reports"):
        (tmp_path / folder).mkdir()
    (tmp_path / "frames" / "own.dcm").write_bytes(stored(ultrasound("P-0001", "1.2.3.4")))
    content = summary(measured(AGE, 150, "d")), biometry(measured(FL, 30, "mm"))
    (tmp_path / "reports" / "report.dcm").write_bytes(stored(report(*content)))
    records = tmp_path / "records.csv"
    records.write_text("file,patient,HC\nown.dcm,P-0001,140\n")
    study = Workspace.create(tmp_path / "study")

    def after(folder: str, table: Path | None = None) -> tuple[object, ...]:
        run_qc(study, QcOptions(tmp_path / folder, table), Engine(jobs=1))
        own = study.images().query("status != 'rejected'").iloc[0]
        values = (own["ga_days"], own["ga_source"], own["fl_mm"], own["hc_mm"])
        return tuple(None if pd.isna(value) else value for value in values)

    assert after("frames") == (None, None, None, None)
    assert after("reports") == (150, "report", 30, None)
    assert after("frames", records) == (150, "report", 30, 140)
    (tmp_path / "reports" / "report.dcm").write_bytes(b"no report any more")
    assert after("reports") == (None, None, None, 140)


def test_what_a_report_gave_is_taken_back_with_its_codes() -> None:
    frame = row("p", "s", ["ga_conflict"], ga_days=210, ga_source="recorded")
    doubted = row("p", "s", [], ga_days=210, ga_source="recorded")
    said = row("p", "s", ["structured_report"], ga_days=157, hc_mm=200.0)
    for reports, hc, codes in (([said], 200.0, ["ga_conflict"]), ([], None, [])):
        apply_reports([frame, doubted, *reports])
        assert (frame["hc_mm"], doubted["hc_mm"]) == (hc, hc)
        assert (frame["reasons"], doubted["reasons"]) == (["ga_conflict"], codes)
    assert (doubted["ga_days"], doubted["ga_source"]) == (210, "recorded")


def test_random_damage_never_raises() -> None:
    random = np.random.default_rng(0)
    content = stored(
        report(summary(dated(DUE, "20241015")), biometry(fetus("A"), measured(FL, 30, "mm")))
    )
    for _ in range(600):
        damaged = bytearray(content)
        for place in random.integers(132, len(content), 4):
            damaged[place] = random.integers(0, 256)
        assert read_dicom(bytes(damaged[: random.integers(200, len(content) + 1)])).codes
