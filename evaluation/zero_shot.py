"""Zero-shot classification: image features against the text features of each plane."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from sono.curation.core.console import progress, warn
from sono.curation.core.errors import SonoError, counted
from sono.curation.core.frame_files import read_stored
from sono.curation.core.geometry import letterbox
from sono.training.data.frame_cache import FrameRows
from sono.training.model.class_embeddings import class_embeddings
from sono.training.model.mask_clip import MaskClip
from sono.training.validation import image_features

Features = NDArray[np.float32]
Frames = Sequence[Path] | FrameRows  # files of frames, or letterboxed frames of the frame cache
# mode and frame number -> mask [S, S], None: not in this mode
MaskFor = Callable[[str, int], NDArray[np.bool_] | None]


def class_features(model: MaskClip, prompts: Sequence[Sequence[str]]) -> Features:
    """Unit features [classes, d]: the mean of the unit features of each class's prompts."""
    return _finite(class_embeddings(model, prompts))


@torch.inference_mode()
def text_features(model: MaskClip, texts: Sequence[str], batch_size: int = 256) -> Features:
    """Unit features [texts, d]."""
    parts = []
    for start in range(0, len(texts), batch_size):
        parts.append(
            _finite(normalize(model.encode_texts(list(texts[start : start + batch_size])), dim=-1))
        )
    return np.concatenate(parts)


def warn_of_cut_texts(model: MaskClip, texts: Sequence[str], what: str) -> None:
    """Warn if the text tower may not read `texts` to their end."""
    count = model.count_truncated(texts) if texts else 0
    if count:
        warn(
            f"{count} of {counted(len(texts), what)} fill all {model.context_length} tokens of the "
            "text tower, so the end may not count; write it with fewer words"
        )


def mode_features(
    model: MaskClip, files: Frames, modes: Sequence[str], mask_for: MaskFor, batch_size: int = 64
) -> dict[str, Features]:
    """Unit features [frames, d] of the frames in `files` in each mode.

    Rows are NaN if a mode has no mask.
    """
    features: dict[str, Features] = {}
    with progress("encoding frames", len(files)) as advance:
        for start, frames in _batches(files, model.image_size, batch_size):
            for mode in modes:
                found = {
                    start + place: mask_for(mode, start + place) for place in range(len(frames))
                }
                masks = {number: mask for number, mask in found.items() if mask is not None}
                if not masks:
                    continue
                rows = list(masks)
                covered = frames[[row - start for row in rows]]
                encoded = masked_features(model, covered, np.stack(list(masks.values())))
                table = features.setdefault(
                    mode, np.full((len(files), encoded.shape[1]), np.nan, np.float32)
                )
                table[rows] = encoded
            advance(len(frames))
    return features


def masked_features(
    model: MaskClip, squares: NDArray[np.uint8], masks: NDArray[np.bool_]
) -> Features:
    """Unit features [n, d] of square frames [n, S, S] under masks [n, S, S].

    Raises SonoError if a feature is not finite.
    """
    return _finite(image_features(model, squares, masks))


def read_squares(files: Frames, rows: Sequence[int], side: int) -> NDArray[np.uint8]:
    """The frames `rows` letterboxed [n, side, side], read by a few threads."""
    if isinstance(files, FrameRows):
        return files[list(rows)]
    with ThreadPoolExecutor(4) as pool:
        return np.stack(
            [letterbox(gray, side) for gray in pool.map(read_stored, [files[row] for row in rows])]
        )


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _batches(files: Frames, side: int, batch_size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First frame number and frames [n, side, side] of each batch."""
    for start in range(0, len(files), batch_size):
        yield start, read_squares(files, range(start, min(start + batch_size, len(files))), side)


def _finite(features: Tensor) -> Features:
    if not bool(torch.isfinite(features).all()):
        raise SonoError(
            "the model gives features that are not finite; its training has diverged, train it "
            "again"
        )
    return np.asarray(features.cpu().float().numpy(), np.float32)
