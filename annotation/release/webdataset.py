"""Tar shards in the layout of webdataset: `IMAGE_ID.png`, `IMAGE_ID.txt` and `IMAGE_ID.json`."""

import io
import json
import tarfile
from itertools import islice
from pathlib import Path

from sono.annotation.release.records import (
    SPLIT_NAMES,
    frame_values,
    region_values,
    run_lengths,
)
from sono.annotation.release.samples import Sample, SampleSet

SHARD_SAMPLES = 1000


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
