"""The tables of a workspace: schemas, and reading and writing with checks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.core.atomic import atomic_path
from sono.curation.core.column_values import (
    BMI_BANDS,
    CAPTION_STATES,
    COUNT_RANGE,
    GA_SOURCES,
    ID_PATTERN,
    IMAGE_PATTERNS,
    IMAGE_RANGES,
    LATERALITIES,
    LEVELS,
    LINE_PATTERN,
    MASK_SOURCES,
    MASK_STATES,
    MEASURES,
    PARITIES,
    PLACE_RANGE,
    PRESENTATIONS,
    SECTOR_KINDS,
    SIDE_RANGE,
    SPLITS,
    STATUSES,
    TIERS,
)
from sono.curation.core.planes import REGIONS
from sono.curation.core.reasons import REASONS
from sono.curation.core.table_checks import (
    STUDY,
    TableSpec,
    arrow_of,
    check_rows,
    readable,
    schema_of,
    to_pandas,
    typed,
    with_new_columns,
)

Row = dict[str, Any]  # a row of a table by column; columns that it lacks are null


class ImageRow(TypedDict, total=False):
    """A frame that was read, or a file that could not be."""

    # from the sha256 of the decoded gray pixels; null where nothing could be decoded
    image_id: str | None
    source_id: str  # keyed hash of the path; the path itself stays in the vault
    file_sha256: str | None
    frame: int
    frame_seconds: float | None  # since the first frame of the cine or video; null if unknown
    source_frames: int | None  # that the file holds, also those that --frames left out
    repeats_frame: int | None  # the frame of the same file that represents this one
    center: str | None
    patient_id: str | None  # keyed pseudonym
    # keyed pseudonym of patients who may be one; null where there are no others
    patient_group: str | None
    study_id: str | None  # keyed pseudonym
    # keyed pseudonym of the exam's folder; null where the folders hold several patients or
    # studies
    exam_id: str | None
    machine: str | None
    plane: str | None  # a plane id, "other" (labeled as none of the planes) or null (unknown)
    region: str | None
    ga_days: int | None
    ga_source: str | None  # the dating that gave it
    # ISO, moved into the 22nd century by the patient's own number of days; null unless kept
    exam_date: str | None
    laterality: str | None
    presentation: str | None
    findings: list[str] | None
    structures: list[str] | None  # named by the record
    bmi_band: str | None  # of the mother, kg/m2
    parity: str | None  # of the mother
    bpd_mm: float | None
    hc_mm: float | None
    ac_mm: float | None
    fl_mm: float | None
    crl_mm: float | None
    nt_mm: float | None
    row_spacing_mm: float | None  # of the stored pixels
    col_spacing_mm: float | None
    spacing_reason: str | None  # why the spacing is null
    height: int | None  # of the stored (cropped) frame, in pixels
    width: int | None
    source_height: int | None  # of the complete frame: upright, with square pixels
    source_width: int | None
    # of the frame in its file, where the pixels were not square; null: the same
    file_height: int | None
    file_width: int | None
    crop_x0: int | None  # half-open box in source pixels
    crop_y0: int | None
    crop_x1: int | None
    crop_y1: int | None
    # full: no border found, so the complete frame is kept
    sector_kind: str | None
    sector_confidence: float | None
    sector_apex_x: float | None  # geometry in stored pixels, degrees from straight down
    sector_apex_y: float | None
    sector_angle_left: float | None
    sector_angle_right: float | None
    sector_radius_min: float | None
    sector_radius_max: float | None
    sector_fraction: float | None  # sector area over source frame area
    brightness: float | None
    contrast: float | None
    peak: float | None  # tone that 99.5 % of the echoes are below
    clipped_dark: float | None
    clipped_bright: float | None
    sharpness: float | None
    speckle: float | None
    shadow: float | None  # fraction of rays without echoes
    blockiness: float | None  # of compression; 1 for none
    doppler: float | None  # fraction of colored pixels inside the sector
    # fraction of the sector under thin strokes of one white tone: letters, calipers
    overlay: float | None
    # fraction of the sector under thin bright strokes of any tone, or colored ones
    strokes: float | None
    known_kind: float | None  # 0 to 1: likeness to the fetal frames that ood.toml was fitted to
    perceptual_hash: str | None  # 64 hexadecimal digits of the sector in its frame
    status: str
    reasons: list[str] | None
    message: str | None
    duplicate_group: str | None
    duplicate_kind: str | None
    partition: str | None  # the split that a published table gives the frame; null for none
    split: str | None
    file: str | None  # relative to the workspace


IMAGES = TableSpec(
    "images",
    schema_of(ImageRow),
    key=("source_id", "frame"),
    choices={
        "status": STATUSES,
        "partition": SPLITS,
        "split": SPLITS,
        "duplicate_kind": ("exact", "near"),
        "reasons": tuple(REASONS),
        "ga_source": GA_SOURCES,
        "laterality": LATERALITIES,
        "presentation": PRESENTATIONS,
        "bmi_band": BMI_BANDS,
        "parity": PARITIES,
        "region": tuple(REGIONS),
        "sector_kind": SECTOR_KINDS,
    },
    ranges=IMAGE_RANGES,
    patterns=IMAGE_PATTERNS,
    file_ids={"file": "image_id"},
    later=frozenset([
        "patient_group", "frame_seconds", "source_frames", "repeats_frame", "ga_source",
        "exam_date", "peak", "speckle", "shadow", "blockiness", "overlay", "strokes", "known_kind",
        "bmi_band", "parity",
    ]),
)  # fmt: skip


class MaskRow(TypedDict, total=False):
    """A mask of one structure on one stored frame."""

    mask_id: str
    image_id: str
    structure: str
    height: int  # size of the mask = size of the stored frame
    width: int
    counts: str  # COCO compressed RLE, column-major
    box_x: int
    box_y: int
    box_width: int
    box_height: int
    area: int
    source: str
    model_hash: str | None
    prompt: str | None  # JSON
    score: float | None
    stability: float | None
    doubt: float | None  # 0 to 1, of a proposal; the review begins with the highest
    state: str
    reviewer: str | None
    reviewed_at: str | None


MASKS = TableSpec(
    "masks",
    schema_of(MaskRow),
    key=("image_id", "structure", "mask_id"),
    choices={"source": MASK_SOURCES, "state": MASK_STATES},
    ranges={
        **dict.fromkeys(("height", "width"), SIDE_RANGE),
        **dict.fromkeys(("box_x", "box_y", "box_width", "box_height"), PLACE_RANGE),
        "area": COUNT_RANGE,
    },
    patterns={"mask_id": LINE_PATTERN, "image_id": ID_PATTERN, "structure": LINE_PATTERN},
    later=frozenset(["doubt"]),
)


class DuplicateRow(TypedDict, total=False):
    """Two frames that look alike; what belongs to the second begins with `other`."""

    kind: str
    source_id: str
    frame: int
    other_source_id: str
    other_frame: int
    image_id: str | None
    other_image_id: str | None
    distance: int | None  # bits of 256 in which the hashes differ
    correlation: float | None  # null where a frame is not stored, so that the pair is not confirmed
    patient_id: str | None
    other_patient_id: str | None
    plane: str | None
    other_plane: str | None
    center: str | None
    other_center: str | None
    split: str | None
    other_split: str | None
    crosses: list[str] | None  # of patient_id, plane, center, split: those known to differ


DUPLICATES = TableSpec(
    "duplicates",
    schema_of(DuplicateRow),
    key=("kind", "source_id", "frame", "other_source_id", "other_frame"),
    choices={"kind": ("exact", "near", "flipped"), "split": SPLITS, "other_split": SPLITS},
    ranges={"frame": COUNT_RANGE, "other_frame": COUNT_RANGE, "distance": (0, 256)},
)


class CaptionRow(TypedDict, total=False):
    """A caption of a frame or of one of its masks."""

    image_id: str
    mask_id: str | None
    level: str
    text: str
    template: str
    tier: str
    tokens: int
    fields: list[str] | None  # the record fields that the text uses
    state: str | None  # a reviewer corrected the text, or marked it as wrong; null: as written
    reviewer: str | None
    reviewed_at: str | None
    facts: str | None  # JSON: the values of the fields when it was reviewed


CAPTIONS = TableSpec(
    "captions",
    schema_of(CaptionRow),
    key=("image_id", "level", "mask_id", "template"),
    choices={"level": LEVELS, "tier": TIERS, "state": CAPTION_STATES},
    ranges={"tokens": COUNT_RANGE},
    patterns={"image_id": ID_PATTERN, "mask_id": LINE_PATTERN},
    later=frozenset(["state", "reviewer", "reviewed_at", "facts"]),
)


class BiometryRow(TypedDict, total=False):
    """A measurement of one mask."""

    mask_id: str
    image_id: str
    patient_id: str | None  # keyed pseudonym
    plane: str
    structure: str
    measure: str
    loinc: str | None  # code of the measure, as in structured reports
    value_mm: float
    z_score: float | None  # INTERGROWTH-21st; null without a standard or an age of 14 to 40 weeks
    centile: float | None  # of the z-score
    convention: str  # between which edges
    source: str  # of the mask
    state: str  # of the mask: a proposed one was not reviewed by anybody


BIOMETRY = TableSpec(
    "biometry",
    schema_of(BiometryRow),
    key=("image_id", "mask_id", "measure"),
    choices={"measure": MEASURES, "source": MASK_SOURCES, "state": MASK_STATES},
    ranges={"value_mm": (0, 1000), "centile": (0, 100)},
    patterns={"mask_id": LINE_PATTERN, "image_id": ID_PATTERN},
    later=frozenset(["loinc", "z_score", "centile"]),
)


def usable_captions(captions: pd.DataFrame) -> pd.DataFrame:
    """The captions that no reviewer marked as wrong."""
    return captions[captions["state"].ne("wrong").fillna(True)]


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
    with readable(path, spec, study) as file:
        names = file.schema_arrow.names
        table = file.read(columns=[name for name in checked if name in names])
        table.validate(full=True)
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
