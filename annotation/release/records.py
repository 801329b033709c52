"""A sample as plain values, as the layouts with JSON or columns hold it."""

from typing import Any

from sono.annotation.release.samples import Sample

# names of splits that other tools expect
SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test", "unassigned": "unassigned"}


def frame_values(sample: Sample) -> dict[str, Any]:
    """All that is known of a frame, without its pixels and masks."""
    return {
        "image_id": sample.image_id,
        "split": SPLIT_NAMES[sample.split],
        "plane": sample.plane,
        "height": sample.height,
        "width": sample.width,
        "captions": list(sample.captions),
        **sample.facts,
        "held_out": sample.held_out,
    }


def region_values(sample: Sample) -> list[dict[str, Any]]:
    """The masks of a sample without their pixels."""
    return [
        {
            "mask_id": region.mask_id,
            "structure": region.structure,
            "captions": list(region.captions),
            "state": region.state,
            "source": region.source,
        }
        for region in sample.regions
    ]


def run_lengths(sample: Sample) -> list[dict[str, Any]]:
    """The masks of a sample in COCO's compressed run lengths."""
    return [
        {"size": [sample.height, sample.width], "counts": region.counts}
        for region in sample.regions
    ]
