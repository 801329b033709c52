"""The masks of region control as pure functions: changed masks, donors, masks of other planes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import sha256

Indices = NDArray[np.integer]

NONE = -1  # a frame without donor
JITTER = 0.1  # of the width or height of the box
LARGEST_OVERLAP = 0.5  # share of a mask that a shifted copy may cover; above it: not movable


def draw(seed: int, *key: str) -> np.random.Generator:
    """A generator that depends only on the seed and the key."""
    return np.random.default_rng(int(sha256(":".join((str(seed), *key)).encode())[:16], 16))


def jittered_box(mask: Mask, generator: np.random.Generator) -> Mask:
    """The bounding box of `mask` [S, S], each side moved by up to 10 % of its length.

    The box keeps at least one pixel.
    """
    box = np.zeros_like(mask)
    rows, columns = (_jittered(np.asarray(mask.any(axis=axis)), generator) for axis in (1, 0))
    box[rows, columns] = bool(mask.any())
    return box


def moved_mask(mask: Mask, generator: np.random.Generator) -> Mask | None:
    """`mask` [S, S] shifted inside the square to where it overlaps itself least.

    Among equally good shifts, one is drawn. The result is None for an empty mask, and if the mask
    overlaps more than half of itself at every shift.
    """
    if not mask.any():
        return None
    overlap, row_shifts, column_shifts = _overlaps(mask)
    least = overlap.min()
    if least > LARGEST_OVERLAP * mask.sum():
        return None
    places = np.argwhere(overlap == least)
    row, column = places[generator.integers(len(places))]
    return np.roll(mask, (row_shifts[row], column_shifts[column]), axis=(0, 1))


def donors(
    groups: Sequence[object], clusters: Indices, keys: Sequence[str], seed: int
) -> NDArray[np.int64]:
    """A donor for each frame [n]: a frame of its group (plane) and another cluster (patient).

    The result is NONE if there is none. Every donor serves once, except in a group where one
    cluster has more than half of the frames. The choice depends on the hashes of `keys`, not on
    their order.
    """
    found = np.full(len(keys), NONE, np.int64)
    by_group: dict[object, list[int]] = {}
    for row, group in enumerate(groups):
        by_group.setdefault(group, []).append(row)
    for rows in by_group.values():
        found[rows] = _donors_of_group(np.array(rows), clusters, keys, seed)
    return found


def foreign_masks(
    planes: Indices,
    mask_structures: Indices,
    candidates: NDArray[np.bool_],
    keys: Sequence[str],
    seed: int,
) -> NDArray[np.int64]:
    """For each frame [n] of `planes` a mask of a structure that its plane does not show.

    The result is NONE if there is none. `candidates` is [planes, structures]. The mask is drawn by
    the hash of the frame's key.
    """
    eligible = {
        plane: np.flatnonzero(~candidates[plane, mask_structures]) for plane in np.unique(planes)
    }
    return np.array(
        [
            draw(seed, "foreign", key).choice(eligible[plane]) if len(eligible[plane]) else NONE
            for plane, key in zip(planes, keys, strict=True)
        ],
        np.int64,
    )


def _jittered(inside: NDArray[np.bool_], generator: np.random.Generator) -> slice:
    """The range of `inside` [S] with both ends moved, cut off at the border."""
    marked = np.flatnonzero(inside)
    if not len(marked):
        return slice(0, 0)
    first, stop = int(marked[0]), int(marked[-1]) + 1
    low, high = np.rint(
        np.array([first, stop]) + generator.uniform(-JITTER, JITTER, 2) * (stop - first)
    ).astype(int)
    low = int(np.clip(low, 0, len(inside) - 1))
    return slice(low, int(np.clip(high, low + 1, len(inside))))


def _overlaps(mask: Mask) -> tuple[NDArray[np.int64], Indices, Indices]:
    """The pixels that `mask` [S, S] shares with itself at each shift inside the square.

    Returns the counts [rows, columns] and the shifts of both axes.
    """
    side = mask.shape[0]
    spectrum = np.fft.rfft2(mask, (2 * side, 2 * side))
    shared = np.rint(np.fft.irfft2(np.abs(spectrum) ** 2, (2 * side, 2 * side))).astype(np.int64)
    shifts = []
    for axis in (1, 0):
        marked = np.flatnonzero(mask.any(axis=axis))
        shifts.append(np.arange(-int(marked[0]), side - int(marked[-1])))
    # a negative shift wraps around, as the transform does
    return shared[np.ix_(*shifts)], shifts[0], shifts[1]


def _donors_of_group(
    rows: Indices, clusters: Indices, keys: Sequence[str], seed: int
) -> NDArray[np.int64]:
    """Donors [rows] of the frames `rows` of one group.

    In the order used, the frames of each cluster are next to each other, so the frame that follows
    at the distance of the largest cluster's size is of another cluster.
    """
    hashes = {row: sha256(f"{seed}:{keys[row]}".encode()) for row in rows.tolist()}
    first: dict[int, str] = {}  # the smallest hash of each cluster
    for row, digest in hashes.items():
        cluster = int(clusters[row])
        first[cluster] = min(digest, first.get(cluster, digest))
    order = np.array(sorted(hashes, key=lambda row: (first[int(clusters[row])], hashes[row])))
    largest = int(np.unique(clusters[order], return_counts=True)[1].max())
    if 2 * largest <= len(order):
        given = dict(zip(order.tolist(), np.roll(order, -largest).tolist(), strict=True))
    else:
        given = {row: _other(order, clusters, place) for place, row in enumerate(order.tolist())}
    return np.array([given[row] for row in rows.tolist()], np.int64)


def _other(order: Indices, clusters: Indices, place: int) -> int:
    """A frame of another cluster than that at `place`, taking turns; NONE if there is none."""
    others = order[clusters[order] != clusters[order[place]]]
    return int(others[place % len(others)]) if len(others) else NONE
