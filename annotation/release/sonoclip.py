"""The layout that SonoCLIP's published code reads."""

import json
from pathlib import Path
from typing import Any

from sono.annotation.release.records import frame_values, region_values, run_lengths
from sono.annotation.release.samples import Sample, SampleSet

STEMS = {"train": "train_stems.txt", "val": "val_stems.txt", "unassigned": "unassigned_stems.txt"}


def write_sonoclip(found: SampleSet, folder: Path) -> None:
    """Write `data/` for training and `test/` with `ul_test.json`.

    A JSON has the fields of the published code: `caption`, `ref_exps` (the characters of the
    caption that name the structure of each mask, or all of it), `mask_captions` and `seudo_masks`
    (the published spelling). Other fields hold what else is known; the code ignores them, as it
    does the lists of stems of other splits than train.
    """
    for place in ("data/images", "data/jsons", "test/images"):
        (folder / place).mkdir(parents=True)
    for split in found.splits:
        samples = found.walk(split, f"export {split}")
        if split == "test":
            tested = {}
            for sample in samples:
                (folder / "test/images" / f"{sample.image_id}.png").write_bytes(sample.png())
                tested[sample.image_id] = _values(sample)
            _write(folder / "test" / "ul_test.json", tested)
            continue
        with (folder / "data" / STEMS[split]).open("w", encoding="utf-8") as stems:
            for sample in samples:
                (folder / "data/images" / f"{sample.image_id}.png").write_bytes(sample.png())
                _write(folder / "data/jsons" / f"{sample.image_id}.json", _values(sample))
                stems.write(sample.image_id + "\n")


def _values(sample: Sample) -> dict[str, Any]:
    caption = sample.captions[0] if sample.captions else ""
    return {
        "caption": caption,
        "ref_exps": [_span(caption, own.structure) for own in sample.regions],
        "mask_captions": [own.captions[0] if own.captions else "" for own in sample.regions],
        "seudo_masks": run_lengths(sample),
        **frame_values(sample),
        "masks": region_values(sample),
    }


def _span(caption: str, structure: str) -> list[int]:
    """Where a caption names a structure: start and end; all of it if it does not."""
    start = caption.find(structure)
    return [0, len(caption)] if start < 0 else [start, start + len(structure)]


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
