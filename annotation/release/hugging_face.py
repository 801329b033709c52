"""Parquet files as `datasets` of Hugging Face loads them: typed columns, pictures inside.

A row is a frame; its masks are a list with a PNG each, white inside. The types are written into the
schema under the key `huggingface`, so nothing has to be declared when the files are loaded.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sono.annotation.release.records import SPLIT_NAMES, frame_values, region_values
from sono.annotation.release.samples import FACTS, Sample, SampleSet
from sono.curation.core.frame_files import encode_png
from sono.curation.core.planes import OTHER
from sono.curation.core.rle import decode

FILE_BYTES = 256 << 20  # of pictures in a file
GROUP_BYTES = 32 << 20  # of pictures in a row group, which is loaded at once

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TEXTS = pa.list_(pa.string())
_TYPES = {str: pa.string(), int: pa.int32(), float: pa.float32(), list: _TEXTS}
# what both layouts of Hugging Face hold of a frame and of a mask, besides names and pictures
FRAME_COLUMNS = [
    ("height", pa.int32()), ("width", pa.int32()), ("captions", _TEXTS),
    *((name, _TYPES[kind]) for name, kind in FACTS.items()), ("held_out", pa.bool_()),
]  # fmt: skip
MASK_NAMES = [("mask_id", pa.string()), ("structure", pa.string())]
MASK_FACTS = [("captions", _TEXTS), ("state", pa.string()), ("source", pa.string())]


def write_hugging_face(found: SampleSet, folder: Path, planes: tuple[str, ...]) -> None:
    """Write `data/SPLIT-NUMBER-of-COUNT.parquet`; `planes` are the ids of the plane table."""
    labels = (*planes, OTHER)
    schema = _schema(labels)
    (folder / "data").mkdir()
    for split in found.splits:
        files = []
        for number, group in enumerate(_groups(found, split, labels)):
            files.append(folder / "data" / f"{SPLIT_NAMES[split]}-{number:05}.parquet")
            with pq.ParquetWriter(files[-1], schema, compression="zstd") as writer:
                for rows in group:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        for number, file in enumerate(files):
            name = f"{SPLIT_NAMES[split]}-{number:05}-of-{len(files):05}.parquet"
            file.rename(file.with_name(name))


def _groups(
    found: SampleSet, split: str, labels: tuple[str, ...]
) -> Iterator[Iterator[list[dict[str, Any]]]]:
    """The files of a split, each as the row groups that it holds."""
    samples = found.walk(split, f"export {SPLIT_NAMES[split]}")
    pending = next(samples, None)

    def row_groups() -> Iterator[list[dict[str, Any]]]:
        nonlocal pending
        written = size = 0
        rows: list[dict[str, Any]] = []
        while pending is not None and written < FILE_BYTES:
            row = _row(pending, labels)
            rows.append(row)
            size += len(row["image"]["bytes"])
            pending = next(samples, None)
            if size >= GROUP_BYTES or pending is None:
                yield rows
                written, size, rows = written + size, 0, []

    while pending is not None:
        yield row_groups()


def _row(sample: Sample, labels: tuple[str, ...]) -> dict[str, Any]:
    masks = [
        region | {"mask": _picture(f"{own.mask_id}.png", mask_png(sample, own.counts))}
        for region, own in zip(region_values(sample), sample.regions, strict=True)
    ]
    values = frame_values(sample)
    del values["split"]
    values["plane"] = None if sample.plane is None else labels.index(sample.plane)
    return {"image": _picture(f"{sample.image_id}.png", sample.png()), **values, "masks": masks}


def mask_png(sample: Sample, counts: str) -> bytes:
    """A mask as a PNG: 255 inside, 0 outside."""
    inside = decode(counts, sample.height, sample.width)
    return encode_png(np.where(inside, np.uint8(255), np.uint8(0)))


def _picture(path: str, content: bytes) -> dict[str, Any]:
    return {"bytes": content, "path": path}


def _schema(labels: tuple[str, ...]) -> pa.Schema:
    """The columns with their types for Arrow, and those for `datasets` in the metadata."""
    fields = [
        ("image", _PICTURE),
        ("image_id", pa.string()),
        ("plane", pa.int64()),
        *FRAME_COLUMNS,
        ("masks", pa.list_(pa.struct([*MASK_NAMES, ("mask", _PICTURE), *MASK_FACTS]))),
    ]
    features = {name: _feature(kind) for name, kind in fields}
    features["plane"] = {"names": list(labels), "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A type of Arrow in the words of `datasets`."""
    if kind == _PICTURE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {one.name: _feature(one.type) for one in kind}
    return {"dtype": arrow_name(kind), "_type": "Value"}


def arrow_name(kind: pa.DataType) -> str:
    """The name of a type of plain values in `datasets`."""
    names = {pa.float32(): "float32", pa.int32(): "int32", pa.int64(): "int64",
             pa.bool_(): "bool"}  # fmt: skip
    return names.get(kind, "string")
