"""Which files of an export have a row in the records table, and which rows have no file."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sono.curation.console import progress
from sono.curation.readers.sources import list_sources, peek_source
from sono.curation.records.table import RecordsTable
from sono.curation.records.values import most_common, shape

MAX_LINES = 20


@dataclass(frozen=True)
class RawMatch:
    """Counts both ways: names of files without a row are told by their looks, rows without a file by their lines."""

    files: int  # that are images or DICOM
    other_files: int
    matched: int
    unmatched: int
    unmatched_names: dict[str, int]
    rows_without_file: int
    lines_without_file: tuple[int, ...]  # the first of them
    lost_zeros: int  # patients of DICOM files whose id the table has without its leading zeros


def match_raw(raw: Path | str, table: RecordsTable, table_path: Path) -> RawMatch:
    """Match every image and DICOM file below `raw` as `sono qc` does, without decoding pixels."""
    own = os.fsencode(table_path.resolve())
    paths = [path for path in list_sources(raw) if os.path.realpath(path) != own]
    used: set[int] = set()
    names: Counter[str] = Counter()
    patients: set[str] = set()
    others = 0
    with progress("match", len(paths)) as advance:
        for path in paths:
            advance()
            header = peek_source(path)
            if header is None:
                others += 1
                continue
            patients.add(header.patient or "")
            record = table.match(path, header.patient, header.study)
            if record is None:
                names[shape(os.fsdecode(path).rpartition("/")[2])] += 1
            else:
                used.add(record.line)
    missing = sorted(record.line for record in table.records if record.line not in used)
    files = len(paths) - others
    return RawMatch(
        files=files,
        other_files=others,
        matched=files - names.total(),
        unmatched=names.total(),
        unmatched_names=most_common(names),
        rows_without_file=len(missing),
        lines_without_file=tuple(missing[:MAX_LINES]),
        lost_zeros=_lost_zeros(patients, {record.patient or "" for record in table.records}),
    )


def _lost_zeros(of_files: set[str], of_rows: set[str]) -> int:
    """How many ids of files that no row has are those of a row once leading zeros are dropped."""
    bare = {identity for identity in of_rows if identity and not identity.startswith("0")}
    return sum(identity.startswith("0") and identity.lstrip("0") in bare for identity in of_files - of_rows)
