"""Outlines found in frames without a label, kept in the workspace for the next evaluation.

`packed/outlines.safetensors` contains them by picture, since a frame's file is named by its pixels.
Its key is the hash of the proposer; another or damaged file is made again. It may be deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sono.annotation.proposers import OutlineProposer, propose_each_kind
from sono.curation.core.arrays import Mask
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import picture_of, read_stored
from sono.curation.core.rle import decode, encode
from sono.curation.core.workspace import Workspace
from sono.training.data.frame_cache import FOLDER
from sono.training.data.mapped_arrays import (
    Arrays,
    bytes_of_text,
    keep_arrays,
    text_of_bytes,
    whole_arrays,
)


@dataclass(frozen=True)
class StoredMask:
    """A mask as COCO RLE, with its size in pixels."""

    counts: str
    height: int
    width: int

    def pixels(self) -> Mask:
        """The mask [height, width]."""
        return decode(self.counts, self.height, self.width)


Outlines = Mapping[str, tuple[StoredMask, ...]]  # by image id, or by picture
Item = tuple[str, Path]  # an image id and the file of the frame


def stored_outlines(
    workspace: Workspace, engine: Engine, image_ids: Sequence[str], files: Sequence[Path]
) -> Outlines:
    """`proposed_outlines`, computed only for frames that the workspace has none of yet.

    Outlines of frames that are not accepted any more are dropped.
    """
    path = workspace.root / FOLDER / "outlines.safetensors"
    known = _read(path)
    pictures = dict(zip(image_ids, (picture_of(file.name) for file in files), strict=True))
    items = list(zip(image_ids, files, strict=True))
    missing = [item for item in items if pictures[item[0]] not in known]
    if missing:
        found = _search(engine, missing)
        known |= {pictures[image_id]: outlines for image_id, outlines in found.items()}
        accepted = {picture_of(str(file)) for file in workspace.accepted_images()["file"]}
        _write(path, {name: known[name] for name in sorted(known) if name in accepted})
    return {name: own for name in sorted(image_ids) if (own := known.get(pictures[name]))}


def proposed_outlines(engine: Engine, image_ids: Sequence[str], files: Sequence[Path]) -> Outlines:
    """The outlines found in each frame without a label, the most convincing first.

    The engine computes them. Frames without an outline are absent.
    """
    found = _search(engine, list(zip(image_ids, files, strict=True)))
    return {image_id: outlines for image_id, outlines in sorted(found.items()) if outlines}


def _search(engine: Engine, items: Sequence[Item]) -> dict[str, tuple[StoredMask, ...]]:
    """The outlines of each frame, empty if it has none; frames not searched are absent."""
    batches = run_batches(engine, _propose, items, _no_proposal, "proposing masks")
    return {
        image_id: outlines
        for batch in batches
        for image_id, outlines in batch
        if outlines is not None
    }


def _propose(item: Item) -> tuple[str, tuple[StoredMask, ...] | None]:
    image_id, file = item
    try:
        gray = read_stored(file)
    except SonoError:  # the encoding reads the frame too, and stops there with the reason
        return image_id, None
    masks = [proposal.mask for proposal in propose_each_kind(gray)]
    return image_id, tuple(StoredMask(encode(mask), *gray.shape) for mask in masks if mask.any())


def _no_proposal(item: Item) -> tuple[str, tuple[StoredMask, ...] | None]:
    return item[0], None


def _key() -> str:
    return f"outlines {OutlineProposer().model_hash}"


def _read(path: Path) -> dict[str, tuple[StoredMask, ...]]:
    """The outlines by picture; empty for a missing, damaged or outdated file."""
    arrays = whole_arrays(path, _key())
    if arrays is None:
        return {}
    masks = iter(arrays["masks"].tolist())
    counts, start = text_of_bytes(arrays["counts"]), 0
    found: dict[str, list[StoredMask]] = {
        name: [] for name in text_of_bytes(arrays["pictures"]).splitlines()
    }
    for outlines, number in zip(found.values(), arrays["outlines"].tolist(), strict=True):
        for height, width, length in (next(masks) for _ in range(number)):
            outlines.append(StoredMask(counts[start : start + length], height, width))
            start += length
    return {name: tuple(outlines) for name, outlines in found.items()}


def _write(path: Path, found: Outlines) -> None:
    """Write the outlines by picture; a workspace that cannot hold them goes without."""
    masks = [mask for outlines in found.values() for mask in outlines]
    sizes = [(mask.height, mask.width, len(mask.counts)) for mask in masks]
    parts: Arrays = {
        "pictures": bytes_of_text("\n".join(found)),
        "outlines": np.array([len(outlines) for outlines in found.values()], np.uint32),
        "masks": np.array(sizes, np.uint32).reshape(-1, 3),
        "counts": bytes_of_text("".join(mask.counts for mask in masks)),
    }
    keep_arrays(path, _key(), parts, "the next evaluation searches again")
