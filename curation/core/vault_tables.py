"""The tables of the vault: files with their paths and raw ids, and released frames."""

import pyarrow as pa

from sono.curation.core.column_values import DATE_PATTERN
from sono.curation.core.table_checks import TableSpec, schema_of
from sono.curation.core.tables import IMAGES

# One row per frame, as measured and joined, before frames are compared with each other.
SOURCES = TableSpec(
    "sources",
    pa.schema(
        [
            # absolute, as the operating system gives it
            pa.field("path", pa.binary(), nullable=False),
            pa.field("root", pa.binary(), nullable=False),  # the folder given to `sono qc`
            pa.field("file_size", pa.int64()),
            pa.field("modified_ns", pa.int64()),
            pa.field("settings_hash", pa.string(), nullable=False),
            pa.field("namespace", pa.string()),  # keeps equal ids of two hospitals apart
            # the hospital that gave the ids of the row that was applied
            pa.field("site", pa.string()),
            pa.field("raw_patient", pa.string()),
            pa.field("raw_study", pa.string()),
            pa.field("file_patient", pa.string()),  # as in the file, whatever the records contain
            pa.field("file_study", pa.string()),
            pa.field("raw_exam_date", pa.string()),  # ISO
            # JSON: other facts of the header on person, exam and picture
            pa.field("header_facts", pa.string()),
            # the rows that met the file by name or id, in digest, for later runs
            pa.field("named_by", pa.list_(pa.string())),
            pa.field("private", pa.list_(pa.string())),  # what must never appear in the workspace
            pa.field(
                "persons", pa.list_(pa.string())
            ),  # of these the names of patients, operators and physicians
            # JSON: the values that a record replaced, for a later record
            pa.field("replaced", pa.string()),
            # the record fields and codes that structured reports gave
            pa.field("from_report", pa.list_(pa.string())),
            pa.field(
                "printed", pa.list_(pa.string())
            ),  # words read in the pixels, where [qc] ocr is set
            *IMAGES.schema,
        ]
    ),
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
        "printed",
        "site",
        "from_report",
    },
)
# Quarantined frames that a person released, whatever `sono qc` finds on them again. A picture is
# the name of a stored file without its extension: one frame may have several crops.
RELEASED = TableSpec(
    "released",
    schema_of(picture=(pa.string(),), reviewer=(pa.string(),), reviewed_at=(pa.string(),)),
    key=("picture",),
)
