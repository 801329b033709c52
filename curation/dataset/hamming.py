"""Find near pairs among millions of 256-bit hashes.

Up to `ALL_PAIRS` hashes, every pair is compared. Beyond, the bits are divided into eleven bands of
23 bits, and two hashes are compared if a band differs in few bits (multi-index hashing, Norouzi
2012). A pair that no band finds differs in at least 3 bits of each of the first two bands and 2 of
each of the others, so every pair within `CERTAIN` bits is found. The first bands hold the coarse
shape of the image, which changes least.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer]
Words = NDArray[np.uint64]
Found = tuple[Rows, Rows, NDArray[np.integer]]  # first, second, distance

ALL_PAIRS = 20_000  # hashes
SIDE = 16  # the bits are the signs of 16 x 16 cosine coefficients, row by row
BAND_BITS = 23
# bits that may differ in each band, the coarse bands first
FLIPS = np.array([2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1])
# mirrored pairs are only reported: a third of the effort, complete up to 21 bits
MIRRORED_FLIPS = np.ones(len(FLIPS), int)
CERTAIN = int((FLIPS + 1).sum()) - 1  # 23
CROWD = 20  # hashes with this many partners are no longer compared with each other
CHUNK = 1 << 20  # pairs compared at once
WIDE = 1 << 14  # two buckets that hold more pairs are compared in tiles
TILE = (32, 2048)  # hashes: few rows, because a crowd is detected after the first 20 of them
EFFORT = 100  # comparisons per hash and band that wide buckets may use


@dataclass(frozen=True)
class NearPairs:
    """Positions `first` < `second` [P] of hashes `distance` [P] bits apart, the nearest first."""

    first: Rows
    second: Rows
    distance: NDArray[np.integer]
    # hashes with 20 partners or more, whose pairs with each other are listed only in part
    crowded: int = 0
    # comparisons skipped in bands that too many hashes share; another band may find such a pair
    left_out: int = 0


def near_pairs(words: Words, max_distance: int, mirror: Words | None = None) -> NearPairs:
    """Pairs of the hashes `words` [N, 4], all different, at most `max_distance` bits apart.

    With `mirror` [4], these bits of one hash are inverted before the comparison (a frame and its
    mirror image).
    """
    flips = FLIPS if mirror is None else MIRRORED_FLIPS
    search = _Search(words, np.zeros(4, np.uint64) if mirror is None else mirror, max_distance)
    nothing = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.uint16))
    found = [
        nothing,
        *(search.all_pairs() if len(words) <= ALL_PAIRS else search.banded_pairs(flips)),
    ]
    first, second, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # a pair may be found twice where comparisons were skipped
    unique = np.unique(first * np.int64(len(words)) + second, return_index=True)[1]
    order = unique[np.argsort(distance[unique], kind="stable")]
    crowded = int((search.degree >= CROWD).sum())
    return NearPairs(first[order], second[order], distance[order], crowded, search.left_out)


class _Search:
    """The state of one search: the hashes, their present numbers of partners, skipped pairs."""

    def __init__(self, words: Words, mirror: Words, max_distance: int) -> None:
        self.words, self.mirror, self.max_distance = words, mirror, max_distance
        self.degree = np.zeros(len(words), np.int32)
        self.budget = self.left_out = 0
        # pairs now, and when the crowd was last computed
        self.found = self.counted = 0
        # buckets of a band that contain only the crowd
        self.closed: tuple[_Band, NDArray[np.bool_]] | None = None

    def all_pairs(self) -> Iterator[Found]:
        """All pairs, by the product of signs: hashes D bits apart give 256 - 2 D."""
        signs = _signs(self.words)
        turned = signs * _signs(self.mirror[None])
        step = max(1, CHUNK // max(1, len(signs)))
        for low in range(0, len(signs), step):
            apart = (signs.shape[1] - turned[low : low + step] @ signs[low:].T) / 2
            i, j = np.nonzero(apart <= self.max_distance)
            i, j, distance = i[i < j], j[i < j], apart[i, j][i < j]
            yield self._keep(i + low, j + low, distance)

    def banded_pairs(self, flips: Rows) -> Iterator[Found]:
        """Pairs that differ in at most `flips` [11] bits of a band, from the first such band."""
        bands, mirror = _band_keys(self.words), _band_keys(self.mirror[None])[0]
        for number, allowed in enumerate(flips):
            band = _Band.sorted_by(bands, number)
            quick_mirror = _quick_word(mirror[None], number)[0]
            self.budget = EFFORT * len(bands)
            for pattern in _patterns(int(allowed)):
                for p, q in self._same_but(band, pattern ^ int(mirror[number])):
                    alike = (
                        np.bitwise_count(band.quick[p] ^ band.quick[q] ^ quick_mirror) <= CERTAIN
                    )
                    i, j, distance = self._near(band.order[p[alike]], band.order[q[alike]])
                    flipped = np.bitwise_count(
                        bands[i, :number] ^ bands[j, :number] ^ mirror[:number]
                    )
                    fresh = (flipped > flips[:number]).all(axis=1) | (self.left_out > 0)
                    yield self._keep(i[fresh], j[fresh], distance[fresh])

    def _near(self, i: Rows, j: Rows) -> Found:
        """The pairs within the maximum distance, and their distances."""
        apart = np.bitwise_count(self.words[i] ^ self.words[j] ^ self.mirror).sum(
            axis=1, dtype=np.uint16
        )
        near = apart <= self.max_distance
        return i[near], j[near], apart[near]

    def _keep(self, i: Rows, j: Rows, distance: NDArray[np.number]) -> Found:
        """The pairs that are not both in the crowd; counts a partner for each of their hashes."""
        kept = (self.degree[i] + _rank(i) < CROWD) | (self.degree[j] + _rank(j) < CROWD)
        i, j, distance = i[kept], j[kept], distance[kept]
        np.add.at(self.degree, i, 1)
        np.add.at(self.degree, j, 1)
        self.found += len(i)
        return (
            np.minimum(i, j).astype(np.int32),
            np.maximum(i, j).astype(np.int32),
            distance.astype(np.uint16),
        )

    def _same_but(self, band: "_Band", pattern: int) -> Iterator[tuple[Rows, Rows]]:
        """Pairs of places in `band` whose keys differ by `pattern`, in chunks."""
        a, b = self._without_crowd(band, *band.buckets(pattern))
        pairs = np.multiply(band.sizes[a], band.sizes[b], dtype=np.float32)
        single = pairs == 1
        yield band.starts[a[single]], band.starts[b[single]]
        a, b, wide = a[~single], b[~single], pairs[~single] > WIDE
        for p, q in band.expand(a[~wide], b[~wide]):
            yield (p, q) if pattern else (p[p < q], q[p < q])
        for one, other in zip(a[wide], b[wide], strict=True):
            yield from self._wide_pairs(band, int(one), int(other))

    def _without_crowd(self, band: "_Band", a: Rows, b: Rows) -> tuple[Rows, Rows]:
        """The pairs of buckets except those that contain only the crowd, as last computed."""
        if self.found - self.counted >= len(self.words) // 8:
            self.counted, self.closed = self.found, None
        if self.counted and (self.closed is None or self.closed[0] is not band):
            self.closed = (band, ~band.any_of(self.degree < CROWD))
        if self.closed is None:
            return a, b
        kept = ~(self.closed[1][a] & self.closed[1][b])
        return a[kept], b[kept]

    def _wide_pairs(self, band: "_Band", a: int, b: int) -> Iterator[tuple[Rows, Rows]]:
        """The pairs of two wide buckets outside the crowd, tile by tile, within the budget."""
        one, other = _split(band.places(a), TILE[0]), _split(band.places(b), TILE[1])
        waiting = other  # tiles with a hash outside the crowd
        for number, rows in enumerate(one):
            for partners in other if self._open(band, rows).any() else waiting:
                if self.budget <= 0:
                    self.left_out += sum(map(len, one[number:])) * int(band.sizes[b])
                    return
                p, q = self._tile(band, rows, partners)
                self.budget -= len(p)
                yield (p, q) if a != b else (p[p < q], q[p < q])
            waiting = [partners for partners in waiting if self._open(band, partners).any()]

    def _tile(self, band: "_Band", rows: Rows, partners: Rows) -> tuple[Rows, Rows]:
        """All pairs of `rows` and `partners` except those of two crowded hashes."""
        open_rows, open_partners = self._open(band, rows), self._open(band, partners)
        p, q = _grid(rows[open_rows], partners)
        crowd_p, crowd_q = _grid(rows[~open_rows], partners[open_partners])
        return np.concatenate([p, crowd_p]), np.concatenate([q, crowd_q])

    def _open(self, band: "_Band", places: Rows) -> NDArray[np.bool_]:
        return np.asarray(self.degree[band.order[places]] < CROWD)


@dataclass(frozen=True)
class _Band:
    """Hashes sorted by the key of one band; hashes with one key form a bucket."""

    order: Rows  # [N] positions
    quick: Words  # [N] 64 other bits, in the same order
    keys: Rows  # of buckets that are not empty, ascending
    starts: Rows  # [2**23] first place of each bucket
    sizes: Rows  # [2**23]

    @classmethod
    def sorted_by(cls, bands: Rows, number: int) -> "_Band":
        """The hashes `bands` [N, 11] by the key of one band."""
        packed = np.sort(bands[:, number].astype(np.int64) << 32 | np.arange(len(bands)))
        order = (packed & 0xFFFFFFFF).astype(np.int32)
        sizes = np.bincount(bands[:, number], minlength=1 << BAND_BITS).astype(np.int32)
        starts = (np.cumsum(sizes) - sizes).astype(np.int32)
        keys = np.flatnonzero(sizes).astype(np.int32)
        return cls(order, _quick_word(bands, number)[order], keys, starts, sizes)

    def places(self, bucket: int) -> Rows:
        """The places of one bucket."""
        return np.arange(self.starts[bucket], self.starts[bucket] + self.sizes[bucket])

    def any_of(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each bucket [2**23] contains a hash of `chosen` [N]."""
        found = np.zeros(len(self.sizes), bool)
        found[self.keys] = np.logical_or.reduceat(chosen[self.order], self.starts[self.keys])
        return found

    def buckets(self, pattern: int) -> tuple[Rows, Rows]:
        """Pairs of buckets that differ by `pattern` and are not empty, each pair once."""
        if not pattern:
            full = self.keys[self.sizes[self.keys] > 1]
            return full, full
        half = self.without(pattern.bit_length() - 1)
        a = half[self.filled[half ^ pattern]]
        return a, a ^ pattern

    @cached_property
    def filled(self) -> NDArray[np.bool_]:
        """Whether each bucket [2**23] is not empty."""
        return self.sizes > 0

    @cached_property
    def _without(self) -> dict[int, Rows]:
        return {}

    def without(self, bit: int) -> Rows:
        """The keys in which `bit` is not set."""
        if bit not in self._without:
            self._without[bit] = self.keys[self.keys & (1 << bit) == 0]
        return self._without[bit]

    def expand(self, a: Rows, b: Rows) -> Iterator[tuple[Rows, Rows]]:
        """Pairs of places of the bucket pairs (a, b), in chunks."""
        total = np.cumsum(self.sizes[a].astype(np.int64) * self.sizes[b])
        cuts = np.searchsorted(total, np.arange(CHUNK, total[-1] if len(total) else 0, CHUNK))
        for one, other in zip(np.split(a, cuts), np.split(b, cuts), strict=True):
            rows = _ranges(self.starts[one], self.sizes[one])
            partners = np.repeat(other, self.sizes[one])
            yield (
                np.repeat(rows, self.sizes[partners]),
                _ranges(self.starts[partners], self.sizes[partners]),
            )


def _ranges(starts: Rows, sizes: Rows) -> Rows:
    """The concatenated ranges start, start + 1, ... of the given sizes."""
    ends = np.cumsum(sizes, dtype=np.int32)
    return np.arange(ends[-1] if len(ends) else 0, dtype=np.int32) + np.repeat(
        starts - ends + sizes, sizes
    )


def _patterns(flips: int) -> list[int]:
    """Every key of 23 bits with at most `flips` bits set, the fewest first."""
    bits = [1 << bit for bit in range(BAND_BITS)]
    return [sum(chosen) for count in range(flips + 1) for chosen in combinations(bits, count)]


def _split(places: Rows, size: int) -> list[Rows]:
    """`places` in pieces of `size`."""
    return [places[low : low + size] for low in range(0, len(places), size)]


def _grid(p: Rows, q: Rows) -> tuple[Rows, Rows]:
    """All pairs of `p` and `q`."""
    return np.repeat(p, len(q)), np.tile(q, len(p))


def _rank(values: Rows) -> Rows:
    """How often each value occurs earlier in `values`."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    rank = np.empty(len(values), np.int64)
    rank[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return rank


def _bits(words: Words) -> NDArray[np.uint8]:
    """Hashes [N, 4] as [N, 256] of 0 and 1."""
    return np.unpackbits(words.view(np.uint8), axis=1)


def _signs(words: Words) -> NDArray[np.float32]:
    """Hashes [N, 4] as [N, 256] of 1 and -1."""
    return 1 - 2 * _bits(words).astype(np.float32)


def _band_keys(words: Words) -> Rows:
    """Hashes [N, 4] as keys [N, 11] of 23 bits each, low frequencies first; 3 bits are unused."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    by_frequency = np.lexsort((np.abs(row - column), row + column))[: len(FLIPS) * BAND_BITS]
    weights = 2.0 ** np.arange(BAND_BITS, dtype=np.float32)
    keys = np.empty((len(words), len(FLIPS)), np.int32)
    for low in range(0, len(words), 1 << 16):
        bits = _bits(words[low : low + (1 << 16)])[:, by_frequency].astype(np.float32)
        # below 2**24: exact
        keys[low : low + (1 << 16)] = bits.reshape(-1, len(FLIPS), BAND_BITS) @ weights
    return keys


def _quick_word(bands: Rows, number: int) -> Words:
    """64 bits of the bands after `number` as one word [N], which rejects most pairs quickly."""
    word = np.zeros(len(bands), np.uint64)
    for step in range(3):
        word |= bands[:, (number + 1 + step) % len(FLIPS)].astype(np.uint64) << np.uint64(
            BAND_BITS * step
        )
    return word
