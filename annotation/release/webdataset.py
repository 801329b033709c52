"""Tar shards in the layout of webdataset: `IMAGE_ID.png`, `IMAGE_ID.txt` and `IMAGE_ID.json`."""

import io
import json
import tarfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from sono.annotation.release.hugging_face import (
    FRAME_COLUMNS,
    MASK_FACTS,
    MASK_NAMES,
    arrow_name,
)
from sono.annotation.release.records import (
    SPLIT_NAMES,
    frame_values,
    region_values,
    run_lengths,
)
from sono.annotation.release.samples import Sample, SampleSet

SHARD_SAMPLES = 1000
_RUNS = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
_JSON = pa.struct([
    ("image_id", pa.string()), ("split", pa.string()), ("plane", pa.string()), *FRAME_COLUMNS,
    ("masks", pa.list_(pa.struct([*MASK_NAMES, *MASK_FACTS, ("segmentation", _RUNS)]))),
])  # fmt: skip


def webdataset_features() -> list[dict[str, Any]]:
    """The types of a sample for the card, where `datasets` reads them.

    Without them it would derive them from the first samples, and refuse a value that is unknown in
    these.
    """
    kinds = {"txt": pa.string(), "json": _JSON, "__key__": pa.string(), "__url__": pa.string()}
    return [{"name": "png", "dtype": "image"}, *_named(kinds.items())]


def _named(kinds: Iterable[tuple[str, pa.DataType]]) -> list[dict[str, Any]]:
    return [{"name": name, **_kind(kind)} for name, kind in kinds]


def _kind(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {"struct": _named((one.name, one.type) for one in kind)}
    if pa.types.is_list(kind):
        inner = _kind(kind.value_type)
        return {"list": inner.get("dtype") or inner["struct"]}
    return {"dtype": arrow_name(kind)}


def write_webdataset(found: SampleSet, folder: Path) -> None:
    """Write `SPLIT-NUMBER.tar`; the text is the first caption, the JSON has all values.

    Masks are COCO run lengths in the JSON.
    """
    for split in found.splits:
        samples = found.walk(split, f"export {SPLIT_NAMES[split]}")
        shards = iter(lambda: list(islice(samples, SHARD_SAMPLES)), [])  # noqa: B023 - used at once
        for number, own in enumerate(shards):
            place = folder / f"{SPLIT_NAMES[split]}-{number:06}.tar"
            with tarfile.open(place, "w", format=tarfile.USTAR_FORMAT) as shard:
                for sample in own:
                    for suffix, content in _members(sample).items():
                        member = tarfile.TarInfo(f"{sample.image_id}.{suffix}")
                        member.size = len(content)
                        shard.addfile(member, io.BytesIO(content))


def _members(sample: Sample) -> dict[str, bytes]:
    masks = [
        region | {"segmentation": runs}
        for region, runs in zip(region_values(sample), run_lengths(sample), strict=True)
    ]
    values = frame_values(sample) | {"masks": masks}
    return {
        "png": sample.png(),
        "txt": (sample.captions[0] if sample.captions else "").encode(),
        "json": json.dumps(values, ensure_ascii=False).encode(),
    }
