"""Near duplicates: pairs of frames with near perceptual hashes, confirmed by correlation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.arrays import Gray
from sono.curation.dataset.hamming import NearPairs, near_pairs
from sono.curation.imaging.perceptual_hash import HASH_SIDE, SMALL_SIDE

# of 256 bits: copies differ by up to 47, frames of different patients by 61 and more (1140 real
# frames)
MAX_DISTANCE = 52
MIN_CORRELATION = 0.7  # copies 0.9 and more, different patients up to 0.52
HELD = 4096  # frames kept in memory while pairs are confirmed (16 kB each)
# a mirror changes the sign of every other cosine: coefficients 1, 3, 5 ... along a row
FLIPPED_BITS = np.packbits(np.arange(HASH_SIDE**2) % 2 == 0).view(np.uint64)


def near_duplicate_pairs(
    hashes: Sequence[str] | pd.Series,
    load: Callable[[int], Gray | None],
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
) -> list[tuple[int, int]]:
    """Pairs (i < j) of frames whose hashes are near and whose small frames `load(i)` correlate."""
    pairs = candidate_pairs(hash_words(hashes), max_distance)
    same = correlations(pairs, load) >= min_correlation
    return sorted(zip(pairs.first[same].tolist(), pairs.second[same].tolist(), strict=True))


def candidate_pairs(
    words: NDArray[np.uint64], max_distance: int = MAX_DISTANCE, flipped: bool = False
) -> NearPairs:
    """Pairs of near hashes `words` [N, 4]; with `flipped`, one of the two frames is mirrored.

    Equal hashes are paired with the first of them only, so a thousand copies give a thousand pairs.
    """
    order = np.lexsort(words.T)
    fresh = np.append(True, (words[order[1:]] != words[order[:-1]]).any(axis=1))[: len(order)]
    holder = np.empty(len(order), np.intp)
    # the sort is stable, so the first of equal hashes comes first
    holder[order] = order[fresh][np.cumsum(fresh) - 1]
    holders = np.flatnonzero(holder == np.arange(len(holder)))
    copies = np.flatnonzero(holder != np.arange(len(holder))) if not flipped else holders[:0]
    near = near_pairs(words[holders], max_distance, FLIPPED_BITS if flipped else None)
    return replace(
        near,
        first=np.concatenate([holder[copies], holders[near.first]]),
        second=np.concatenate([copies, holders[near.second]]),
        distance=np.concatenate([np.zeros(len(copies), np.uint16), near.distance]),
    )


def correlations(
    pairs: NearPairs, load: Callable[[int], Gray | None], flipped: bool = False
) -> NDArray[np.floating]:
    """Correlation [P] of the frames of each pair, with `flipped` the second one mirrored.

    The result is NaN if a frame is missing. A bounded number of frames is kept in memory.
    """

    @lru_cache(maxsize=HELD)
    def detail(index: int) -> NDArray[np.float32] | None:
        picture = load(index)
        return None if picture is None else _detail(picture)

    found = np.full(len(pairs.first), np.nan)
    for place in np.lexsort((pairs.second, pairs.first)):
        one, other = detail(int(pairs.first[place])), detail(int(pairs.second[place]))
        if one is not None and other is not None:
            found[place] = _correlation(
                one, np.ascontiguousarray(other[:, ::-1]) if flipped else other
            )
    return found


def hash_words(hashes: Sequence[str] | pd.Series) -> NDArray[np.uint64]:
    """Convert hexadecimal hashes to words [N, 4]."""
    starts = range(0, len(hashes), 1 << 16)
    packed = b"".join(bytes.fromhex("".join(hashes[low : low + (1 << 16)])) for low in starts)
    return np.frombuffer(packed, dtype=np.uint64).reshape(-1, 4)


def _detail(picture: Gray) -> NDArray[np.float32]:
    """The local contrast [64, 64] of a frame, without shading and the outline of the sector."""
    small = cv2.resize(picture, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    present = (small > 0).astype(np.float32)
    weight = cv2.GaussianBlur(present, (0, 0), 3.0) + 1e-3
    shading = cv2.GaussianBlur(small, (0, 0), 3.0) / weight
    detail = (small - shading) * present
    spread = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), 3.0) / weight)
    return np.asarray(detail / (spread + 4.0), np.float32)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Best normalized cross-correlation over shifts of up to 3 pixels."""
    return float(cv2.matchTemplate(one, other[3:-3, 3:-3], cv2.TM_CCOEFF_NORMED).max())
