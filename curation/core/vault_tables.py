"""The tables of the vault: files with their paths and raw ids, and reviewed frames."""

from typing import TypedDict

from sono.curation.core.column_values import DATE_PATTERN, DECISIONS
from sono.curation.core.reasons import EXCLUSIONS, WITHDRAWABLE
from sono.curation.core.table_checks import Long, TableSpec, schema_of
from sono.curation.core.tables import IMAGES, ImageRow


class SourceFacts(TypedDict, total=False):
    """What only the vault holds of a file and of the records that it met."""

    path: bytes  # absolute, as the operating system gives it
    root: bytes  # the folder given to `sono qc`
    file_size: Long | None
    modified_ns: Long | None
    settings_hash: str
    namespace: str | None  # keeps equal ids of two hospitals apart
    site: str | None  # the hospital that gave the ids of the row that was applied
    raw_patient: str | None
    raw_study: str | None
    file_patient: str | None  # as in the file, whatever the records contain
    file_study: str | None
    raw_exam_date: str | None  # ISO
    header_facts: str | None  # JSON: other facts of the header on person, exam and image
    named_by: list[str] | None  # digests of the rows that met the file by name or id
    record_note: str | None  # why a row was not applied, or only in part
    private: list[str]  # what must never appear in the workspace
    persons: list[str] | None  # of these the names of patients, operators and physicians
    replaced: str | None  # JSON: the values that a record replaced, for a later record
    from_report: list[str] | None  # the record fields and codes that structured reports gave
    printed: list[str] | None  # words read in the pixels, where [qc] ocr is set


class SourceRow(SourceFacts, ImageRow, total=False):
    """A frame as measured and joined, before frames are compared with each other."""


class ReleasedRow(TypedDict, total=False):
    """A person's decision on a frame, whatever `sono qc` finds on it again."""

    # the name of a stored file without its extension: one frame may have several crops
    picture: str
    reviewer: str
    reviewed_at: str
    decision: str | None  # null in tables of earlier versions: released
    # why a reviewer excluded the frame, in all its crops; null for a decision on the quarantine
    reasons: list[str] | None
    withdrawn: list[str] | None  # remarks that are wrong


SOURCES = TableSpec(
    "sources",
    schema_of(SourceRow),
    key=IMAGES.key,
    choices=IMAGES.choices,
    ranges=IMAGES.ranges,
    patterns=IMAGES.patterns | {"raw_exam_date": DATE_PATTERN},
    file_ids=IMAGES.file_ids,
    later=IMAGES.later
    | {
        "file_patient",
        "file_study",
        "raw_exam_date",
        "header_facts",
        "named_by",
        "record_note",
        "printed",
        "site",
        "from_report",
    },
)
RELEASED = TableSpec(
    "released",
    schema_of(ReleasedRow),
    key=("picture",),
    choices={"decision": DECISIONS, "reasons": EXCLUSIONS, "withdrawn": WITHDRAWABLE},
    later=frozenset(["decision", "reasons", "withdrawn"]),
)
