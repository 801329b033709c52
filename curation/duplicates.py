"""Near duplicates: a perceptual hash of the sector, a search that does not compare all with all, and groups."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.sector import Sector, crop_to_sector

Gray = NDArray[np.uint8]

SMALL_SIDE = 64
HASH_SIDE = 16  # 16 x 16 coefficients, a bit each
BANDS = 16  # of 16 bits; two hashes within 31 bits always agree in one band but for one bit, 52 apart 9 times in 10
MAX_DISTANCE = 52  # of 256 bits: copies differ by up to 47, frames of different women by 61 and more (1140 real frames)
MIN_CORRELATION = 0.7  # copies 0.9 and more, different women up to 0.52
CHUNK = 1 << 22  # candidate pairs held at once


def perceptual_hash(gray: Gray, sector: Sector) -> str:
    """256 bits as 64 hexadecimal digits of the source frame `gray` [H, W], zero outside its sector.

    The signs of the cosine coefficients 1 to 16 in both directions: gain, offset, size, aspect and compression
    hardly change them. The crop is put back into its frame first, so a side found in one copy and missed in another
    moves nothing.
    """
    picture = small_frame(crop_to_sector(gray, sector), sector.box, gray.shape)
    coefficients = cv2.dct(np.sqrt(picture.astype(np.float32)))[1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1]
    return np.packbits(coefficients > 0).tobytes().hex()


def small_frame(crop: Gray, box: tuple[int, int, int, int], source_shape: tuple[int, ...]) -> Gray:
    """The stored crop in its place in the source frame [H, W], shrunk to a square [64, 64]."""
    x0, y0, x1, y1 = box
    frame = np.zeros(source_shape, np.uint8)
    frame[y0:y1, x0:x1] = crop
    return np.asarray(cv2.resize(frame, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def near_duplicate_pairs(
    hashes: Sequence[str],
    load: Callable[[int], Gray],
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
) -> list[tuple[int, int]]:
    """Index pairs (i < j) of frames whose hashes are near and whose pictures `load(i)` (see `small_frame`) correlate.

    Equal hashes are compared with their first holder only, so a thousand copies give a thousand pairs.
    """
    first_holder = {code: index for index, code in reversed(list(enumerate(hashes)))}
    holders = sorted(first_holder.values())
    candidates = [(first_holder[code], i) for i, code in enumerate(hashes) if first_holder[code] != i]
    words = _words([hashes[index] for index in holders])
    candidates += [(holders[i], holders[j]) for i, j in _near_pairs(words, max_distance)]
    details: dict[int, NDArray[np.float32]] = {}
    pairs = []
    for i, j in sorted(candidates):
        for index in (i, j):
            if index not in details:
                details[index] = _detail(load(index))
        if _correlation(details[i], details[j]) >= min_correlation:
            pairs.append((i, j))
    return pairs


def duplicate_groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected groups of more than one among `count` frames, each sorted, in order of their first member."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for i, j in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for index in range(count):
        groups.setdefault(root(index), []).append(index)
    return [members for members in groups.values() if len(members) > 1]


def _words(hashes: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes as [N, 4] words."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, 4)


def _near_pairs(words: NDArray[np.uint64], max_distance: int) -> Iterator[tuple[int, int]]:
    """Positions (i < j) of hashes at most `max_distance` bits apart, found through bands that nearly agree."""
    found = [np.zeros(0, np.int64)]
    bands = words.view(np.uint16).reshape(len(words), BANDS)
    for band in bands.T:
        order = np.argsort(band, kind="stable")
        for flip in (0, *(1 << bit for bit in range(16))):
            for i, j in _bucket_pairs(band, order, np.uint16(flip)):
                distance = np.bitwise_count(words[i] ^ words[j]).sum(axis=1)
                near = distance <= max_distance
                found.append(np.unique(i[near] * len(words) + j[near]))
    for code in np.unique(np.concatenate(found)):
        yield divmod(int(code), len(words))


def _bucket_pairs(
    band: NDArray[np.uint16], order: NDArray[np.int64], flip: np.uint16
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (i < j) with band[i] ^ flip == band[j], in chunks that fit in memory."""
    values, sought = band[order], band ^ flip
    start, end = np.searchsorted(values, sought, "left"), np.searchsorted(values, sought, "right")
    total = np.concatenate([[0], np.cumsum(end - start)])
    low = 0
    while low < len(band):
        high = max(low + 1, int(np.searchsorted(total, total[low] + CHUNK, "right")) - 1)
        counts = (end - start)[low:high]
        i = np.repeat(np.arange(low, high), counts)
        within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        j = order[np.repeat(start[low:high], counts) + within]
        yield i[i < j], j[i < j]
        low = high


def _detail(picture: Gray) -> NDArray[np.float32]:
    """A frame as [64, 64] of local contrast: shading and the sector's outline are taken away."""
    small = cv2.resize(picture, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    present = (small > 0).astype(np.float32)
    weight = cv2.GaussianBlur(present, (0, 0), 3.0) + 1e-3
    shading = cv2.GaussianBlur(small, (0, 0), 3.0) / weight
    detail = (small - shading) * present
    spread = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), 3.0) / weight)
    return np.asarray(detail / (spread + 4.0), np.float32)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Best normalised cross-correlation over shifts of up to 3 pixels."""
    return float(cv2.matchTemplate(one, other[3:-3, 3:-3], cv2.TM_CCOEFF_NORMED).max())
