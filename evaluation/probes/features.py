"""Features of frames by a frozen image encoder, kept for the next probe.

`probe/features.safetensors` of the encoder's folder contains them by picture and mask. Its key
identifies the weights; another or damaged file is made again, and it may be deleted.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.hooks import RemovableHandle

from sono.curation.core.atomic import sha256
from sono.curation.core.console import progress
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import picture_of
from sono.curation.core.geometry import letterbox_mask
from sono.curation.core.workspace import Workspace
from sono.evaluation.outlines import StoredMask
from sono.evaluation.zero_shot import Features, Frames, masked_features, read_squares
from sono.training.data.frame_cache import kept_frames
from sono.training.data.mapped_arrays import (
    Arrays,
    bytes_of_text,
    keep_arrays,
    text_of_bytes,
    whole_arrays,
)
from sono.training.model.mask_clip import MaskClip

VERSION = 1  # of what is stored: increase it when that changes


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of frames: `pooled` [n, width] by the image tower, before its projection.

    `embedded` [n, d] are the unit features that are compared with texts.
    """

    pooled: Features
    embedded: Features

    def both(self) -> Features:
        """Side by side [n, width + d]."""
        return np.concatenate([self.pooled, self.embedded], axis=1)


@dataclass(frozen=True)
class Store:
    """The file of kept features, and the key of the weights that they are from."""

    path: Path
    key: str


def frozen_features(
    workspace: Workspace,
    model: MaskClip,
    frames: pd.DataFrame,
    store: Store,
    masks: Mapping[str, StoredMask] | None = None,
    batch_size: int = 64,
) -> FrozenFeatures:
    """The features of `frames`, computed only for those that the store has none of.

    `masks` are by image id; None covers the whole square. Features of frames that are not accepted
    any more are dropped.
    """
    own = [None if masks is None else masks[str(name)] for name in frames["image_id"]]
    names = [_name(str(file), mask) for file, mask in zip(frames["file"], own, strict=True)]
    known = _read(store)
    missing = [row for row, name in enumerate(names) if name not in known]
    if missing:
        files = [str(file) for file in frames["file"].iloc[missing]]
        packed = kept_frames(workspace, files, model.image_size)
        pixels = [workspace.root / file for file in files] if packed is None else packed
        made = encode_frames(model, pixels, [own[row] for row in missing], batch_size)
        for place, row in enumerate(missing):
            known[names[row]] = (made.pooled[place], made.embedded[place])
        accepted = {picture_of(str(file)) for file in workspace.accepted_images()["file"]}
        _write(store, {name: known[name] for name in sorted(known) if name.split()[0] in accepted})
    pooled, embedded = zip(*(known[name] for name in names), strict=True)
    return FrozenFeatures(np.stack(pooled), np.stack(embedded))


def encode_frames(
    model: MaskClip, files: Frames, masks: Sequence[StoredMask | None], batch_size: int
) -> FrozenFeatures:
    """The features of frames under their masks; None covers the whole square."""
    side, pooled, embedded = model.image_size, [], []
    with progress("encoding frames", len(files)) as advance:
        for start in range(0, len(files), batch_size):
            rows = range(start, min(start + batch_size, len(files)))
            inside = np.stack([_square(masks[row], side) for row in rows])
            with before_projection(model) as seen:
                embedded.append(masked_features(model, read_squares(files, rows, side), inside))
            pooled.append(_array(seen[0]) if seen else embedded[-1])
            advance(len(rows))
    found = FrozenFeatures(np.concatenate(pooled), np.concatenate(embedded))
    if not np.isfinite(found.pooled).all():
        raise SonoError("the encoder gives features that are not finite; get its weights again")
    return found


def pooled_and_embedded(model: MaskClip, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The features of `FrozenFeatures` with gradients, of frames and masks [n, 1, S, S]."""
    with before_projection(model) as seen:
        embedded = normalize(model.encode_image(image, mask), dim=-1)
    return (seen[0] if seen else embedded), embedded


def squares_of(
    workspace: Workspace,
    frames: pd.DataFrame,
    masks: Mapping[str, StoredMask] | None,
    side: int,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The letterboxed `frames` [n, side, side], and their masks by image id."""
    files = [str(file) for file in frames["file"]]
    packed = kept_frames(workspace, files, side)
    pixels = [workspace.root / file for file in files] if packed is None else packed
    squares = read_squares(pixels, range(len(files)), side)
    if masks is None:
        return squares, None
    return squares, np.stack([_square(masks[str(name)], side) for name in frames["image_id"]])


@contextmanager
def before_projection(model: MaskClip) -> Iterator[list[Tensor]]:
    """Collect the pooled features [n, width] of each pass; none for an unknown kind of tower."""
    seen: list[Tensor] = []
    hook = _hook(getattr(getattr(model, "towers", None), "visual", None), seen)
    try:
        yield seen
    finally:
        if hook is not None:
            hook.remove()


def _hook(visual: nn.Module | None, seen: list[Tensor]) -> RemovableHandle | None:
    hook: RemovableHandle | None = None
    if isinstance(visual, TimmModel):
        hook = visual.head.register_forward_pre_hook(
            lambda module, given: seen.append(_mean(given[0]))
        )
    elif isinstance(visual, VisionTransformer):
        hook = visual.ln_post.register_forward_hook(
            lambda module, given, found: seen.append(_mean(_pool(visual, found)))
        )
    return hook


def _pool(visual: VisionTransformer, found: Tensor) -> Tensor:
    """What open_clip's tower projects of the output [n, tokens, width] or [n, width] of a norm."""
    if found.ndim == 2:
        return found
    return found[:, 1:].mean(dim=1) if visual.pool_type == "avg" else found[:, 0]


def _mean(found: Tensor) -> Tensor:
    return found.mean((2, 3)) if found.ndim == 4 else found


def _array(found: Tensor) -> Features:
    return np.asarray(found.detach().to("cpu", torch.float32).numpy())


def _square(mask: StoredMask | None, side: int) -> NDArray[np.bool_]:
    return np.ones((side, side), np.bool_) if mask is None else letterbox_mask(mask.pixels(), side)


def _name(file: str, mask: StoredMask | None) -> str:
    """The name of a picture, and the hash of its mask if it has one."""
    if mask is None:
        return picture_of(file)
    drawn = f"{mask.height} {mask.width} {mask.counts}"
    return f"{picture_of(file)} {sha256(drawn.encode())[:16]}"


def _read(store: Store) -> dict[str, tuple[Features, Features]]:
    arrays = whole_arrays(store.path, _key(store))
    if arrays is None:
        return {}
    names = text_of_bytes(arrays["names"]).splitlines()
    rows = zip(arrays["pooled"], arrays["embedded"], strict=True)
    return dict(zip(names, rows, strict=True))


def _write(store: Store, found: Mapping[str, tuple[Features, Features]]) -> None:
    """Write the features by name; a workspace that cannot hold them goes without."""
    pooled, embedded = (np.stack(part) for part in zip(*found.values(), strict=True))
    parts: Arrays = {
        "pooled": pooled,
        "embedded": embedded,
        "names": bytes_of_text("\n".join(found)),
    }
    keep_arrays(store.path, _key(store), parts, "the next probe encodes again")


def _key(store: Store) -> str:
    return f"probe {VERSION} {store.key}"
