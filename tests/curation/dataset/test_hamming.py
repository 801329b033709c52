"""The search for near hashes: against all pairs, its guarantee, and crowds."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.dataset import hamming
from sono.curation.dataset.hamming import BAND_BITS, CERTAIN, CROWD, FLIPS, near_pairs

Words = NDArray[np.uint64]


def random_words(count: int, seed: int = 0) -> Words:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 4), dtype=np.uint64)


def with_flips(words: Words, bits: list[int], seed: int = 1) -> Words:
    """Every hash with as many bits inverted, drawn at random, as `bits` says in turn."""
    generator = np.random.default_rng(seed)
    table = np.unpackbits(words.view(np.uint8), axis=1)
    for row, number in enumerate(bits):
        table[row, generator.choice(256, number, replace=False)] ^= 1
    return np.packbits(table, axis=1).view(np.uint64)


@pytest.fixture
def banded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search that large sets get, also for the few hashes of a test."""
    monkeypatch.setattr(hamming, "ALL_PAIRS", 0)


def listed(pairs: hamming.NearPairs) -> set[tuple[int, int]]:
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def test_few_hashes_are_compared_all_with_all() -> None:
    words = random_words(300)
    words[200:253] = with_flips(words[:53], list(range(53)))
    pairs = near_pairs(words, 52)
    assert set(
        zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True)
    ) == {
        (i, j, distance)
        for i, j in combinations(range(300), 2)
        if (distance := int(np.bitwise_count(words[i] ^ words[j]).sum())) <= 52
    }
    assert pairs.distance.tolist() == list(range(53))


@pytest.mark.usefixtures("banded")
def test_bands_find_every_pair_within_23_bits_and_most_up_to_52() -> None:
    assert CERTAIN == 23
    words = random_words(2000)
    near, far = (
        with_flips(words[:1000], [23] * 1000),
        with_flips(words[1000:], [24 + index % 29 for index in range(1000)]),
    )
    pairs = listed(near_pairs(np.concatenate([words, near, far]), 52))
    assert {(index, 2000 + index) for index in range(1000)} <= pairs
    assert len(pairs) > 1650
    assert all(j == i + 2000 for i, j in pairs)


@pytest.mark.usefixtures("banded")
def test_the_worst_pair_within_23_bits_is_found_and_the_one_beyond_is_not() -> None:
    words = random_words(1)
    row, column = np.divmod(np.arange(256), 16)
    by_frequency = np.lexsort((np.abs(row - column), row + column))
    bits = [
        by_frequency[BAND_BITS * band + bit]
        for band, flips in enumerate(FLIPS)
        for bit in range(flips + 1)
    ]
    table = np.unpackbits(words.view(np.uint8), axis=1)
    table[0, bits] ^= 1
    beyond = np.packbits(table, axis=1).view(np.uint64)
    assert listed(near_pairs(np.concatenate([words, beyond]), 52)) == set()
    table[0, bits[0]] ^= 1
    assert listed(
        near_pairs(np.concatenate([words, np.packbits(table, axis=1).view(np.uint64)]), 52)
    ) == {(0, 1)}


@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_mirror_is_taken_off_before_the_comparison(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hamming, "ALL_PAIRS", limit)
    mirror = random_words(1, seed=7)[0]
    words = random_words(100)
    words[60:80] = with_flips(words[:20], [9] * 20) ^ mirror
    assert listed(near_pairs(words, 52, mirror)) == {(index, 60 + index) for index in range(20)}
    assert listed(near_pairs(words, 52)) == set()


@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_crowd_stays_connected_without_all_its_pairs(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hamming, "ALL_PAIRS", limit)
    center = random_words(1)
    crowd = with_flips(np.repeat(center, 3000, axis=0), [4] * 3000)
    loner = random_words(1000, seed=5)
    loner[0] = with_flips(crowd[:1], [20])[0]
    words = np.unique(np.concatenate([crowd, loner]), axis=0)
    pairs = near_pairs(words, 52)
    assert pairs.crowded == 3001
    assert len(pairs.first) < 4 * CROWD * 3001
    partners = np.bincount(np.concatenate([pairs.first, pairs.second]), minlength=len(words))
    assert sorted(set(partners[partners < CROWD])) == [0]
    assert (partners == 0).sum() == 999


@pytest.mark.usefixtures("banded")
def test_a_band_that_all_share_costs_a_bounded_effort_and_other_bands_make_up_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hamming, "EFFORT", 1)
    words = random_words(1000)
    words[900:] = with_flips(words[:100], [10] * 100)
    table = np.unpackbits(words.view(np.uint8), axis=1)
    row, column = np.divmod(np.arange(256), 16)
    table[:, row + column < 7] = 1  # 28 bits, the first band among them, are the same for all
    pairs = near_pairs(np.packbits(table, axis=1).view(np.uint64), 20)
    assert pairs.left_out > 0
    assert listed(pairs) == {(index, 900 + index) for index in range(100)}
    assert len(pairs.first) == 100


def test_no_hashes_give_no_pairs() -> None:
    assert len(near_pairs(np.zeros((0, 4), np.uint64), 52).first) == 0
