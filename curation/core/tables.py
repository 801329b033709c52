"""The tables of a workspace: schemas, and reading and writing with checks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.core.atomic import atomic_path, check_regular
from sono.curation.core.column_values import (
    COUNT_RANGE,
    ID_PATTERN,
    IMAGE_PATTERNS,
    IMAGE_RANGES,
    LEVELS,
    LINE_PATTERN,
    MASK_SOURCES,
    MASK_STATES,
    PLACE_RANGE,
    SIDE_RANGE,
    SPLITS,
    STATUSES,
    TIERS,
)
from sono.curation.core.errors import SonoError
from sono.curation.core.reasons import REASONS
from sono.curation.core.table_checks import (
    STUDY,
    TableSpec,
    arrow_of,
    check_file,
    check_rows,
    schema_of,
    to_pandas,
    typed,
    with_new_columns,
)

Row = dict[str, Any]  # a row of a table by column; columns that it lacks are null


_text, _int, _real = pa.string(), pa.int32(), pa.float64()
_texts = pa.list_(pa.string())


IMAGES = TableSpec(
    "images",
    schema_of(
        # from the sha256 of the decoded gray pixels; null where nothing could be decoded
        image_id=_text,
        source_id=(_text,),  # keyed hash of the path; the path itself stays in the vault
        file_sha256=_text,
        frame=(_int,),
        source_frames=_int,  # that the file holds, also those that --frames left out
        repeats_frame=_int,  # the frame of the same file that represents this one
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
        source_height=_int,  # of the complete frame: upright, with square pixels
        source_width=_int,
        # of the frame in its file, where the pixels were not square; null: the same
        file_height=_int,
        file_width=_int,
        crop_x0=_int,  # half-open box in source pixels
        crop_y0=_int,
        crop_x1=_int,
        crop_y1=_int,
        # convex, phased, linear, trapezoid, full (no border found: the complete frame is kept)
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
    ranges=IMAGE_RANGES,
    patterns=IMAGE_PATTERNS,
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


MASKS = TableSpec(
    "masks",
    schema_of(
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
        **dict.fromkeys(("height", "width"), SIDE_RANGE),
        **dict.fromkeys(("box_x", "box_y", "box_width", "box_height"), PLACE_RANGE),
        "area": COUNT_RANGE,
    },
    patterns={"mask_id": LINE_PATTERN, "image_id": ID_PATTERN, "structure": LINE_PATTERN},
)

# Pairs found by `sono dedup`; what belongs to the other frame begins with "other".
DUPLICATES = TableSpec(
    "duplicates",
    schema_of(
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
    ranges={"frame": COUNT_RANGE, "other_frame": COUNT_RANGE, "distance": (0, 256)},
)


CAPTIONS = TableSpec(
    "captions",
    schema_of(
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
    ranges={"tokens": COUNT_RANGE},
    patterns={"image_id": ID_PATTERN, "mask_id": LINE_PATTERN},
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
    """The rows as dictionaries; missing values are None, missing integers NA."""
    rows = frame.to_dict("records")
    return [
        {str(k): None if isinstance(v, float) and pd.isna(v) else v for k, v in row.items()}
        for row in rows
    ]


def read_table(
    path: Path, spec: TableSpec, columns: Sequence[str] | None = None, study: str = ""
) -> pd.DataFrame:
    """Read and check a table, or some columns of it; empty if the file does not exist.

    Raises SonoError if it is damaged, or belongs to another study than `study` (the check of its
    key, "" if unknown).
    """
    wanted = list(columns or spec.columns)
    if not path.exists():
        return empty_table(spec)[wanted]
    return to_pandas(read_arrow(path, spec, wanted, study))


def read_arrow(
    path: Path, spec: TableSpec, columns: list[str] | None = None, study: str = ""
) -> pa.Table:
    """Read and check a table as Arrow, for tables that would not fit into memory as pandas."""
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
    """Rewrite a table with `values`, in the order of its rows, as its column `name`.

    The other columns are not changed.
    """
    table = read_arrow(path, spec, study=study)
    column = pa.array(values, type=spec.schema.field(name).type, from_pandas=True)
    table = table.set_column(table.schema.get_field_index(name), spec.schema.field(name), column)
    check_rows(table, spec, str(path))
    _write(path, table, spec, 0o644, study)


def write_table(
    path: Path, frame: pd.DataFrame, spec: TableSpec, mode: int = 0o644, study: str = ""
) -> None:
    """Check a table, sort it by its key and write it atomically, with the mark of `study`.

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
    """Write a CSV whose text cells are not read as formulas by spreadsheets."""
    safe = frame.apply(lambda column: column.map(_plain_cell))
    with atomic_path(path) as temporary:
        safe.to_csv(temporary, index=False)


def _plain_cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
