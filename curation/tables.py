"""The tables of a workspace: schemas declared once, checked on every read and write."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.errors import SonoError
from sono.curation.storage import atomic_path

STATUSES = ("accepted", "rejected", "quarantined", "error")
SPLITS = ("train", "val", "test")
MASK_SOURCES = ("manual", "sam", "heuristic", "model", "import")
MASK_STATES = ("proposed", "accepted", "edited", "rejected")
LEVELS = ("global", "region")
TIERS = ("full", "partial", "label")


@dataclass(frozen=True)
class TableSpec:
    """Name, Arrow schema, unique key (also the sort order) and closed vocabularies of a table."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Column names in order."""
        return list(self.schema.names)


def _schema(**columns: pa.DataType | tuple[pa.DataType]) -> pa.Schema:
    """Columns by name; a type in a one-tuple must not be null."""
    fields = []
    for name, kind in columns.items():
        required = isinstance(kind, tuple)
        fields.append(pa.field(name, kind[0] if isinstance(kind, tuple) else kind, nullable=not required))
    return pa.schema(fields)


_text, _int, _real = pa.string(), pa.int32(), pa.float64()
_texts = pa.list_(pa.string())

IMAGES = TableSpec(
    "images",
    _schema(
        image_id=_text,  # from the sha256 of the decoded gray pixels; null where nothing could be decoded
        source_id=(_text,),  # keyed hash of the path; the path itself stays in the vault
        file_sha256=_text,
        frame=(_int,),
        source_frames=_int,  # that the file holds, also those that --frames left out
        repeats_frame=_int,  # the frame of the same file that stands for this one
        center=_text,
        patient_id=_text,  # keyed pseudonym
        study_id=_text,  # keyed pseudonym
        machine=_text,
        plane=_text,  # a plane id, "other" (labelled as none of the planes) or null (unknown)
        region=_text,
        ga_days=_int,
        ga_source=_text,  # the dating that gave it: recorded, due, lmp, crl, hc
        exam_date=_text,  # ISO, moved into the 22nd century by the patient's own number of days; null unless kept
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
        source_height=_int,
        source_width=_int,
        crop_x0=_int,  # half-open box in source pixels
        crop_y0=_int,
        crop_x1=_int,
        crop_y1=_int,
        sector_kind=_text,  # convex, phased, linear, trapezoid, full (no border found: the whole frame is kept)
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
        doppler=_real,  # fraction of coloured pixels inside the sector
        overlay=_real,  # fraction of the sector under thin strokes of one white tone: letters, calipers
        strokes=_real,  # fraction of the sector under thin bright strokes of any tone, or coloured ones
        known_kind=_real,  # 0 to 1: likeness to the fetal frames that known_kind.toml was fitted to
        perceptual_hash=_text,  # 64 hexadecimal digits of the sector in its frame
        status=(_text,),
        reasons=_texts,
        message=_text,
        duplicate_group=_text,
        duplicate_kind=_text,
        split=_text,
        file=_text,  # relative to the workspace
    ),
    key=("source_id", "frame"),
    choices={"status": STATUSES, "split": SPLITS, "duplicate_kind": ("exact", "near")},
)

# In the vault: one row a frame, as measured and joined, before anything is compared over the whole set.
SOURCES = TableSpec(
    "sources",
    pa.schema(
        [
            pa.field("path", pa.binary(), nullable=False),  # absolute, as the operating system gives it
            pa.field("root", pa.binary(), nullable=False),  # the folder given to `sono qc`
            pa.field("file_size", pa.int64()),
            pa.field("modified_ns", pa.int64()),
            pa.field("settings_hash", pa.string(), nullable=False),
            pa.field("namespace", pa.string()),  # keeps equal ids of two hospitals apart
            pa.field("raw_patient", pa.string()),
            pa.field("raw_study", pa.string()),
            pa.field("file_patient", pa.string()),  # as the file has them, whatever the records say
            pa.field("file_study", pa.string()),
            pa.field("raw_exam_date", pa.string()),  # ISO
            pa.field("private", _texts),  # what must never appear in the workspace
            pa.field("replaced", pa.string()),  # JSON: what stood where a record was written, for a later record
            pa.field("printed", _texts),  # words read in the pixels, where [qc] ocr is set
            *IMAGES.schema,
        ]
    ),
    key=IMAGES.key,
    choices=IMAGES.choices,
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
)

# In the vault: quarantined frames that a person let pass, whatever `sono qc` finds on them again.
# a picture is the name of a stored file, without its ending: of one frame there may be several crops
RELEASED = TableSpec("released", _schema(picture=(_text,), reviewer=(_text,), reviewed_at=(_text,)), key=("picture",))

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
)


def empty_table(spec: TableSpec) -> pd.DataFrame:
    """A table of `spec` without rows."""
    return _to_pandas(spec.schema.empty_table())


def from_rows(spec: TableSpec, rows: list[dict[str, object]]) -> pd.DataFrame:
    """A table of `spec` from dictionaries; columns that a row lacks are null."""
    return _to_pandas(_checked(pd.DataFrame(rows, columns=spec.columns, dtype=object), spec, "new rows"))


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries; what is missing is None, a missing whole number NA."""
    rows = frame.to_dict("records")
    return [{str(k): None if isinstance(v, float) and pd.isna(v) else v for k, v in row.items()} for row in rows]


def read_table(path: Path, spec: TableSpec, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read and check a table, or only some columns of it; a file that does not exist gives an empty one."""
    wanted = list(columns or spec.columns)
    if not path.exists():
        return empty_table(spec)[wanted]
    return _to_pandas(read_arrow(path, spec, wanted))


def read_arrow(path: Path, spec: TableSpec, columns: list[str] | None = None) -> pa.Table:
    """The checked table as it lies on disk, for what would not fit into memory as pandas."""
    wanted = columns or spec.columns
    try:
        names = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in wanted if name in names], partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise SonoError(f"{path}: not a readable Parquet table ({error}); delete it and run the stage again") from error
    table = _with_new_columns(table, spec, wanted)
    odd = sorted((set(names) - set(spec.columns)) | (set(wanted) - set(table.schema.names)))
    if odd:
        raise SonoError(
            f"{path}: columns {odd} do not fit the {spec.name} table; written by another version, run the stage again"
        )
    try:
        table = table.cast(pa.schema([spec.schema.field(name) for name in table.schema.names]))
    except (pa.ArrowException, ValueError) as error:
        raise SonoError(f"{path}: a value does not fit the {spec.name} table: {error}") from error
    _check_rows(table, spec, str(path))
    return table


def replace_column(path: Path, spec: TableSpec, name: str, values: pd.Series) -> None:
    """Write a table again with `values`, in the order of its rows, as its column `name`; the others are not touched."""
    table = read_arrow(path, spec)
    column = pa.array(values, type=spec.schema.field(name).type, from_pandas=True)
    table = table.set_column(table.schema.get_field_index(name), spec.schema.field(name), column)
    _check_rows(table, spec, str(path))
    _write(path, table, spec, 0o644)


def _with_new_columns(table: pa.Table, spec: TableSpec, wanted: Sequence[str]) -> pa.Table:
    """The columns `wanted` of a table, perhaps of an earlier version: those that came since are null where they may."""
    for name in wanted:
        field_ = spec.schema.field(name)
        if name not in table.schema.names and field_.nullable:
            table = table.append_column(field_, pa.nulls(len(table), field_.type))
    return table.select([name for name in wanted if name in table.schema.names])


def write_table(path: Path, frame: pd.DataFrame, spec: TableSpec, mode: int = 0o644) -> None:
    """Check, sort by the key and write atomically; the same rows give the same bytes."""
    # null keys (the mask of a global caption) sort first
    ordered = frame.sort_values(list(spec.key), na_position="first", kind="stable")
    _write(path, _checked(ordered, spec, str(path)), spec, mode)


def _write(path: Path, table: pa.Table, spec: TableSpec, mode: int) -> None:
    named = table.replace_schema_metadata({"sono_table": spec.name})
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


def _checked(frame: pd.DataFrame, spec: TableSpec, where: str) -> pa.Table:
    missing = [name for name in spec.columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in spec.columns]
    if missing or extra:
        raise SonoError(f"{where}: the {spec.name} table lacks columns {missing} and has unknown columns {extra}")
    try:
        table = pa.Table.from_pandas(frame[spec.columns], schema=spec.schema, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SonoError(f"{where}: a value does not fit the {spec.name} table: {error}") from error
    _check_rows(table, spec, where)
    return table


def _check_rows(table: pa.Table, spec: TableSpec, where: str) -> None:
    """SonoError for a word outside its vocabulary, or two rows of one key; of the columns that `table` has."""
    for name in spec.choices.keys() & set(table.schema.names):
        odd = sorted(set(table[name].unique().drop_null().to_pylist()) - set(spec.choices[name]))
        if odd:
            raise SonoError(f"{where}: column '{name}' has {odd[0]!r}; allowed: {', '.join(spec.choices[name])}")
    if set(spec.key) <= set(table.schema.names):
        keys = _to_pandas(table.select(list(spec.key)))
        twice = keys.duplicated()
        if twice.any():
            row = keys[twice].iloc[0]
            raise SonoError(
                f"{where}: two rows of the {spec.name} table share {', '.join(f'{k}={row[k]}' for k in spec.key)}"
            )


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    nullable = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    # each column goes its own way into pandas and is given up as soon as it is there
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get, split_blocks=True, self_destruct=True)
    return frame
