"""The values of structured reports on the frames of the same study, where the records say nothing."""

from collections.abc import Iterable, MutableMapping
from typing import Any

import pandas as pd

Row = MutableMapping[str, Any]
Study = tuple[str, str]

REPORT_FIELDS = ("ga_days", "bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm", "nt_mm")


def apply_reports(rows: Iterable[Row]) -> int:
    """Fill the empty record fields of frames from the reports of their study; returns the number of rows filled.

    Patient and study must both be as the files have them. What two reports of a study say differently is left out.
    """
    listed = list(rows)
    reports = _by_study(row for row in listed if is_report_row(row))
    filled = 0
    for row in listed:
        values = {} if is_report_row(row) else reports.get(_study(row), {})
        fresh = {name: value for name, value in values.items() if _is_empty(row.get(name))}
        row.update(fresh)
        filled += bool(fresh)
    return filled


def is_report_row(row: Row) -> bool:
    """Whether the row is of a structured report; its values are its own, no record's."""
    return "structured_report" in row["reasons"]


def _by_study(reports: Iterable[Row]) -> dict[Study | None, dict[str, float]]:
    """The values that all reports of a study agree on."""
    said: dict[Study | None, dict[str, set[float]]] = {}
    for row in reports:
        of_study = said.setdefault(_study(row), {})
        for name in REPORT_FIELDS:
            if not _is_empty(row.get(name)):
                of_study.setdefault(name, set()).add(row[name])
    said.pop(None, None)
    return {
        study: {name: values.pop() for name, values in fields.items() if len(values) == 1}
        for study, fields in said.items()
    }


def _study(row: Row) -> Study | None:
    patient, study = row.get("file_patient"), row.get("file_study")
    return (patient.strip() if isinstance(patient, str) else "", study) if isinstance(study, str) else None


def _is_empty(value: Any) -> bool:
    return value is None or bool(pd.isna(value))
