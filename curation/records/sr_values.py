"""Apply values of structured reports to frames of the same study that records leave empty."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from sono.curation.clinical.dating import days_from_size, disagreeing
from sono.curation.core.tables import Row
from sono.curation.records.record_fields import facts_of
from sono.curation.records.shared_ids import differ

# the source of an age, and the code of a report that is not applied
REPORT, CONFLICT = "report", "report_conflict"
REPORT_FIELDS = ("ga_days", "bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm", "nt_mm")


def apply_reports(rows: Iterable[Row]) -> int:
    """Fill the empty record fields of frames from the reports of their study.

    Patient and study must equal those of the file. A report whose header contradicts the frame's is
    not applied (`report_conflict`); values in which two reports of a study differ are left out. An
    age that a report, a record or a length contradicts gets `ga_conflict`. Values from reports of
    earlier runs are removed first, so that the result depends on the present reports only. Returns
    the number of rows filled.
    """
    listed = list(rows)
    reports: dict[str, list[Row]] = {}
    for row in listed:
        if is_report_row(row) and isinstance(row.get("file_study"), str):
            reports.setdefault(row["file_study"], []).append(row)
    return sum(
        _apply(row, reports.get(row["file_study"], [])) for row in listed if not is_report_row(row)
    )


def rows_with_reports(rows: Iterable[Row], others: Iterable[Row]) -> list[Row]:
    """Those of `others` whose study has a report in either, or that have values of a report."""
    listed = list(others)
    studies = {row["file_study"] for row in (*rows, *listed) if is_report_row(row)} - {None}
    return [row for row in listed if row["file_study"] in studies or _given(row)]


def is_report_row(row: Row) -> bool:
    """Whether the row is a structured report; its values are its own, not a record's."""
    return "structured_report" in row["reasons"]


def _apply(row: Row, reports: Sequence[Row]) -> bool:
    """Fill `row` from the `reports` of its study that do not contradict it; whether any did."""
    _forget(row)
    own = facts_of(row) if reports else None
    sound = [report for report in reports if own and not differ(own, facts_of(report))]
    if len(sound) < len(reports):
        _add_code(row, CONFLICT)
    values = _agreed([report for report in sound if _patient(report) == _patient(row)])
    fresh = {name: value for name, value in values.items() if _is_empty(row.get(name))}
    row.update(fresh)
    row["from_report"] = [*(row.get("from_report") or ()), *fresh] or None
    if "ga_days" in fresh:
        row["ga_source"] = REPORT
    if values and not _is_empty(row.get("ga_days")) and _is_doubted(row, values.get("ga_days")):
        _add_code(row, "ga_conflict")
    return bool(fresh)


def _add_code(row: Row, code: str) -> None:
    """Add a code that the row does not have yet, and mark it as given by a report."""
    if code not in row["reasons"]:
        row.update(
            reasons=[*row["reasons"], code], from_report=[*(row.get("from_report") or ()), code]
        )


def _forget(row: Row) -> None:
    """Remove the values and codes that an earlier run took from reports."""
    given = _given(row)
    row.update({name: None for name in REPORT_FIELDS if name in given}, from_report=None)
    if "ga_days" in given:
        row["ga_source"] = None
    row["reasons"] = [code for code in row["reasons"] if code not in given]


def _given(row: Row) -> set[str]:
    """The fields and codes that reports gave in an earlier run.

    A run of an older version did not list them; then they are the age and its codes.
    """
    listed = row.get("from_report")
    if listed is not None:
        return set(listed)
    aged = {"ga_days", "ga_conflict"} if row.get("ga_source") == REPORT else set()
    return aged | ({CONFLICT} & set(row["reasons"]))


def _is_doubted(row: Row, reported: float | None) -> bool:
    """Whether the age of `row` is too far from the `reported` one or from its own CRL or HC."""
    source = row["ga_source"] if isinstance(row.get("ga_source"), str) else "recorded"
    datings = {} if reported is None else {REPORT: int(reported)}
    for name in ("crl", "hc"):
        size = row.get(f"{name}_mm")
        days = None if size is None or _is_empty(size) else days_from_size(name, float(size))
        datings |= {} if days is None else {name: days}
    return bool(disagreeing(source, datings | {source: int(row["ga_days"])}))


def _agreed(reports: Sequence[Row]) -> dict[str, float]:
    """The values on which all reports of a study agree."""
    given = {
        name: {row[name] for row in reports if not _is_empty(row.get(name))}
        for name in REPORT_FIELDS
    }
    return {name: values.pop() for name, values in given.items() if len(values) == 1}


def _patient(row: Row) -> str:
    patient = row.get("file_patient")
    return patient.strip() if isinstance(patient, str) else ""


def _is_empty(value: Any) -> bool:
    return value is None or bool(pd.isna(value))
