"""Folders of pictures with `metadata.parquet`, as `datasets` of Hugging Face loads them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sono.annotation.release.hugging_face import (
    FRAME_COLUMNS,
    MASK_FACTS,
    MASK_NAMES,
    mask_png,
)
from sono.annotation.release.records import SPLIT_NAMES, frame_values, region_values
from sono.annotation.release.samples import SampleSet

_SCHEMA = pa.schema([
    ("file_name", pa.string()), ("image_id", pa.string()), ("plane", pa.string()), *FRAME_COLUMNS,
    ("masks", pa.list_(pa.struct([("mask_file_name", pa.string()), *MASK_NAMES, *MASK_FACTS]))),
])  # fmt: skip


def write_image_folder(found: SampleSet, folder: Path) -> None:
    """Write `SPLIT/IMAGE_ID.png`, `SPLIT/masks/MASK_ID.png` and `SPLIT/metadata.parquet`.

    The table is Parquet and not JSON lines, because `datasets` would derive the type of a column
    from the first values of each split, and refuse a column that is unknown there.
    """
    for split in found.splits:
        place = folder / SPLIT_NAMES[split]
        (place / "masks").mkdir(parents=True)
        rows = []
        for sample in found.walk(split, f"export {place.name}"):
            (place / f"{sample.image_id}.png").write_bytes(sample.png())
            masks = []
            for region, own in zip(region_values(sample), sample.regions, strict=True):
                file = f"masks/{own.mask_id}.png"
                (place / file).write_bytes(mask_png(sample, own.counts))
                masks.append({"mask_file_name": file, **region})
            values = {"file_name": f"{sample.image_id}.png", **frame_values(sample)}
            rows.append(values | {"masks": masks})
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), place / "metadata.parquet")
