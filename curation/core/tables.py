"""The tables of a workspace: schemas declared once, checked on every read and write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.core.atomic import atomic_path, check_regular
from sono.curation.core.errors import SonoError
from sono.curation.core.reasons import REASONS
from sono.curation.core.table_checks import (
    STUDY,
    Range,
    TableSpec,
    arrow_of,
    check_file,
    check_rows,
    to_pandas,
    typed,
    with_new_columns,
)

Row = dict[str, Any]  # a measured frame on its way from a worker to the table
# Plausible values in mm, from the first trimester to term with disease.
RANGES_MM = {
    "bpd": (5.0, 130.0),
    "hc": (20.0, 450.0),
    "ac": (20.0, 480.0),
    "fl": (2.0, 95.0),
    "crl": (2.0, 120.0),
    "nt": (0.3, 20.0),
    "spacing": (0.005, 2.0),
    "row_spacing": (0.005, 2.0),
    "col_spacing": (0.005, 2.0),
}

STATUSES = ("accepted", "rejected", "quarantined", "error")
SPLITS = ("train", "val", "test")
MASK_SOURCES = ("manual", "sam", "heuristic", "model", "import", "box")  # a box drawn by a person
MASK_STATES = ("proposed", "accepted", "edited", "rejected")
LEVELS = ("global", "region")
TIERS = ("full", "partial", "label")


def _schema(**columns: pa.DataType | tuple[pa.DataType]) -> pa.Schema:
    """Columns by name; a type in a one-tuple must not be null."""
    fields = []
    for name, kind in columns.items():
        required = isinstance(kind, tuple)
        fields.append(
            pa.field(name, kind[0] if isinstance(kind, tuple) else kind, nullable=not required)
        )
    return pa.schema(fields)


_text, _int, _real = pa.string(), pa.int32(), pa.float64()
_texts = pa.list_(pa.string())

_ID = r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}"  # may be the name of a file
_LINE = r"\PC{1,200}"  # printed letters
_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_SIDE: Range = (1, 1 << 20)  # pixels
_PLACE: Range = (0, 1 << 20)
_COUNT: Range = (0, 2**31 - 1)
_SHARE: Range = (0, 1)
_IMAGE_RANGES: dict[str, Range] = {
    "frame": _COUNT,
    "source_frames": _COUNT,
    "repeats_frame": _COUNT,
    "ga_days": (28, 315),  # 4 to 45 weeks
    **{f"{name}_mm": RANGES_MM[name] for name in ("bpd", "hc", "ac", "fl", "crl", "nt")},
    **dict.fromkeys(("row_spacing_mm", "col_spacing_mm"), RANGES_MM["spacing"]),
    **dict.fromkeys(("height", "width", "source_height", "source_width"), _SIDE),
    **dict.fromkeys(("crop_x0", "crop_y0", "crop_x1", "crop_y1"), _PLACE),
    **dict.fromkeys(
        ("sector_confidence", "sector_fraction", "brightness", "clipped_dark", "clipped_bright"),
        _SHARE,
    ),
    **dict.fromkeys(("shadow", "doppler", "overlay", "strokes", "known_kind"), _SHARE),
}
_IMAGE_PATTERNS = {
    **dict.fromkeys(("image_id", "source_id", "patient_id", "study_id", "duplicate_group"), _ID),
    **dict.fromkeys(("perceptual_hash", "file_sha256"), "[0-9a-f]{64}"),
    "exam_date": _DATE,
    # no other place: what the table names is read, and may be exported
    "file": rf"frames/{_ID}/{_ID}[.]png",
}

IMAGES = TableSpec(
    "images",
    _schema(
        # from the sha256 of the decoded gray pixels; null where nothing could be decoded
        image_id=_text,
        source_id=(_text,),  # keyed hash of the path; the path itself stays in the vault
        file_sha256=_text,
        frame=(_int,),
        source_frames=_int,  # that the file holds, also those that --frames left out
        repeats_frame=_int,  # the frame of the same file that stands for this one
        center=_text,
        patient_id=_text,  # keyed pseudonym
        # keyed pseudonym of patients who may be one; null where there are no others
        patient_group=_text,
        study_id=_text,  # keyed pseudonym
        # keyed pseudonym of the exam's folder; null where the folders hold several patients or
        # studies
        exam_id=_text,
        machine=_text,
        plane=_text,  # a plane id, "other" (labeled as none of the planes) or null (unknown)
        region=_text,
        ga_days=_int,
        ga_source=_text,  # the dating that gave it: recorded, due, lmp, crl, hc, report
        # ISO, moved into the 22nd century by the patient's own number of days; null unless kept
        exam_date=_text,
        laterality=_text,
        presentation=_text,
        findings=_texts,
        structures=_texts,  # named by the record
        bpd_mm=_real,
        hc_mm=_real,
        ac_mm=_real,
        fl_mm=_real,
        crl_mm=_real,
        nt_mm=_real,
        row_spacing_mm=_real,  # of the stored pixels
        col_spacing_mm=_real,
        spacing_reason=_text,  # why the spacing is null
        height=_int,  # of the stored (cropped) frame, in pixels
        width=_int,
        source_height=_int,  # of the whole frame: upright, with square pixels
        source_width=_int,
        # of the frame in its file, where the pixels were not square; null: the same
        file_height=_int,
        file_width=_int,
        crop_x0=_int,  # half-open box in source pixels
        crop_y0=_int,
        crop_x1=_int,
        crop_y1=_int,
        # convex, phased, linear, trapezoid, full (no border found: the whole frame is kept)
        sector_kind=_text,
        sector_confidence=_real,
        sector_apex_x=_real,  # geometry in stored pixels, degrees from straight down
        sector_apex_y=_real,
        sector_angle_left=_real,
        sector_angle_right=_real,
        sector_radius_min=_real,
        sector_radius_max=_real,
        sector_fraction=_real,  # sector area over source frame area
        brightness=_real,
        contrast=_real,
        peak=_real,  # tone that 99.5 % of the echoes are below
        clipped_dark=_real,
        clipped_bright=_real,
        sharpness=_real,
        speckle=_real,
        shadow=_real,  # fraction of rays without echoes
        blockiness=_real,  # of compression; 1 for none
        doppler=_real,  # fraction of colored pixels inside the sector
        # fraction of the sector under thin strokes of one white tone: letters, calipers
        overlay=_real,
        # fraction of the sector under thin bright strokes of any tone, or colored ones
        strokes=_real,
        known_kind=_real,  # 0 to 1: likeness to the fetal frames that ood.toml was fitted to
        perceptual_hash=_text,  # 64 hexadecimal digits of the sector in its frame
        status=(_text,),
        reasons=_texts,
        message=_text,
        duplicate_group=_text,
        duplicate_kind=_text,
        partition=_text,  # the split that a published table gives the frame; null for none
        split=_text,
        file=_text,  # relative to the workspace
    ),
    key=("source_id", "frame"),
    choices={
        "status": STATUSES,
        "partition": SPLITS,
        "split": SPLITS,
        "duplicate_kind": ("exact", "near"),
        "reasons": tuple(REASONS),
    },
    ranges=_IMAGE_RANGES,
    patterns=_IMAGE_PATTERNS,
    file_ids={"file": "image_id"},
    later=frozenset(
        [
            "patient_group",
            "source_frames",
            "repeats_frame",
            "ga_source",
            "exam_date",
            "peak",
            "speckle",
            "shadow",
            "blockiness",
            "overlay",
            "strokes",
            "known_kind",
        ]
    ),
)

# In the vault: one row a frame, as measured and joined, before anything is compared over the whole
# set.
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
            pa.field("file_patient", pa.string()),  # as the file has them, whatever the records say
            pa.field("file_study", pa.string()),
            pa.field("raw_exam_date", pa.string()),  # ISO
            # JSON: what else the header says of person, exam and picture
            pa.field("header_facts", pa.string()),
            # the rows that met the file by name or id, in digest, for later runs
            pa.field("named_by", _texts),
            pa.field("private", _texts),  # what must never appear in the workspace
            pa.field("persons", _texts),  # of these the names of patients, operators and physicians
            # JSON: what stood where a record was written, for a later record
            pa.field("replaced", pa.string()),
            # the record fields and codes that structured reports gave
            pa.field("from_report", _texts),
            pa.field("printed", _texts),  # words read in the pixels, where [qc] ocr is set
            *IMAGES.schema,
        ]
    ),
    key=IMAGES.key,
    choices=IMAGES.choices,
    ranges=IMAGES.ranges,
    patterns=IMAGES.patterns | {"raw_exam_date": _DATE},
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

MASKS = TableSpec(
    "masks",
    _schema(
        mask_id=(_text,),
        image_id=(_text,),
        structure=(_text,),
        height=(_int,),  # size of the mask = size of the stored frame
        width=(_int,),
        counts=(_text,),  # COCO compressed RLE, column-major
        box_x=(_int,),
        box_y=(_int,),
        box_width=(_int,),
        box_height=(_int,),
        area=(_int,),
        source=(_text,),
        model_hash=_text,
        prompt=_text,  # JSON
        score=_real,
        stability=_real,
        state=(_text,),
        reviewer=_text,
        reviewed_at=_text,
    ),
    key=("image_id", "structure", "mask_id"),
    choices={"source": MASK_SOURCES, "state": MASK_STATES},
    ranges={
        **dict.fromkeys(("height", "width"), _SIDE),
        **dict.fromkeys(("box_x", "box_y", "box_width", "box_height"), _PLACE),
        "area": _COUNT,
    },
    patterns={"mask_id": _LINE, "image_id": _ID, "structure": _LINE},
)

# Pairs found by `sono dedup`; what belongs to the other frame begins with "other".
DUPLICATES = TableSpec(
    "duplicates",
    _schema(
        kind=(_text,),
        source_id=(_text,),
        frame=(_int,),
        other_source_id=(_text,),
        other_frame=(_int,),
        image_id=_text,
        other_image_id=_text,
        distance=_int,  # bits of 256 in which the hashes differ
        correlation=_real,  # null where a frame is not stored, so that the pair is not confirmed
        patient_id=_text,
        other_patient_id=_text,
        plane=_text,
        other_plane=_text,
        center=_text,
        other_center=_text,
        split=_text,
        other_split=_text,
        crosses=_texts,  # patient_id, plane, center, split: which of them are known and differ
    ),
    key=("kind", "source_id", "frame", "other_source_id", "other_frame"),
    choices={"kind": ("exact", "near", "flipped"), "split": SPLITS, "other_split": SPLITS},
    ranges={"frame": _COUNT, "other_frame": _COUNT, "distance": (0, 256)},
)

# In the vault: quarantined frames that a person let pass, whatever `sono qc` finds on them again.
# a picture is the name of a stored file, without its ending: of one frame there may be several
# crops
RELEASED = TableSpec(
    "released", _schema(picture=(_text,), reviewer=(_text,), reviewed_at=(_text,)), key=("picture",)
)

CAPTIONS = TableSpec(
    "captions",
    _schema(
        image_id=(_text,),
        mask_id=_text,
        level=(_text,),
        text=(_text,),
        template=(_text,),
        tier=(_text,),
        tokens=(_int,),
        fields=_texts,  # the record fields that the text uses
    ),
    key=("image_id", "level", "mask_id", "template"),
    choices={"level": LEVELS, "tier": TIERS},
    ranges={"tokens": _COUNT},
    patterns={"image_id": _ID, "mask_id": _LINE},
)


def empty_table(spec: TableSpec) -> pd.DataFrame:
    """A table of `spec` without rows."""
    return to_pandas(spec.schema.empty_table())


def from_rows(spec: TableSpec, rows: list[dict[str, object]]) -> pd.DataFrame:
    """A table of `spec` from dictionaries; columns that a row lacks are null."""
    return to_pandas(
        arrow_of(pd.DataFrame(rows, columns=spec.columns, dtype=object), spec, "new rows")
    )


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries; what is missing is None, a missing whole number NA."""
    rows = frame.to_dict("records")
    return [
        {str(k): None if isinstance(v, float) and pd.isna(v) else v for k, v in row.items()}
        for row in rows
    ]


def read_table(
    path: Path, spec: TableSpec, columns: Sequence[str] | None = None, study: str = ""
) -> pd.DataFrame:
    """Read and check a table, or only some columns of it; a file that does not exist gives an empty
    one.

    SonoError where it is damaged, or of another study than `study` (the check of its key, "" where
    it is not known).
    """
    wanted = list(columns or spec.columns)
    if not path.exists():
        return empty_table(spec)[wanted]
    return to_pandas(read_arrow(path, spec, wanted, study))


def read_arrow(
    path: Path, spec: TableSpec, columns: list[str] | None = None, study: str = ""
) -> pa.Table:
    """The checked table as it lies on disk, for what would not fit into memory as pandas."""
    wanted = list(columns or spec.columns)
    # the key and the places of files are checked whatever is wanted
    checked = [
        name
        for name in spec.columns
        if name in {*wanted, *spec.key, *spec.file_ids, *spec.file_ids.values()}
    ]
    check_regular(path)
    try:
        with pq.ParquetFile(path) as file:
            check_file(path, file, spec, study)
            names = file.schema_arrow.names
            table = file.read(columns=[name for name in checked if name in names])
            table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SonoError(
            f"{path}: not a readable Parquet table ({error}); delete it and run the stage again"
        ) from error
    table = typed(with_new_columns(table, spec, checked), spec, str(path))
    check_rows(table, spec, str(path))
    return table.select(wanted)


def replace_column(
    path: Path, spec: TableSpec, name: str, values: pd.Series, study: str = ""
) -> None:
    """Write a table again with `values`, in the order of its rows, as its column `name`.

    The others are not touched.
    """
    table = read_arrow(path, spec, study=study)
    column = pa.array(values, type=spec.schema.field(name).type, from_pandas=True)
    table = table.set_column(table.schema.get_field_index(name), spec.schema.field(name), column)
    check_rows(table, spec, str(path))
    _write(path, table, spec, 0o644, study)


def write_table(
    path: Path, frame: pd.DataFrame, spec: TableSpec, mode: int = 0o644, study: str = ""
) -> None:
    """Check, sort by the key and write atomically, with the mark of `study`.

    The same rows give the same bytes.
    """
    # null keys (the mask of a global caption) sort first
    ordered = frame.sort_values(list(spec.key), na_position="first", kind="stable")
    _write(path, arrow_of(ordered, spec, str(path)), spec, mode, study)


def _write(path: Path, table: pa.Table, spec: TableSpec, mode: int, study: str) -> None:
    mark = {STUDY: study.encode()} if study else {}
    named = table.replace_schema_metadata({b"sono_table": spec.name.encode()} | mark)
    with atomic_path(path, mode) as temporary:
        pq.write_table(named, temporary, compression="zstd")


def export_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV whose text cells no spreadsheet takes for formulas."""
    safe = frame.apply(lambda column: column.map(_plain_cell))
    with atomic_path(path) as temporary:
        safe.to_csv(temporary, index=False)


def _plain_cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
