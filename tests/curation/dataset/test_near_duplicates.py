"""Near duplicates: hashes, the search and the groups."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.dataset.near_duplicates import near_duplicate_pairs
from sono.curation.imaging.perceptual_hash import perceptual_hash, small_frame
from sono.curation.imaging.sector import crop_to_sector, find_sector

Gray = NDArray[np.uint8]


def tissue(seed: int, side: int = 400) -> Gray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (side, side)), (0, 0), 12)
    return np.clip(90 + 35 * noise / noise.std(), 1, 255).astype(np.uint8)


def distance(one: Gray, other: Gray) -> int:
    codes = [int(perceptual_hash(gray, find_sector(gray)), 16) for gray in (one, other)]
    return (codes[0] ^ codes[1]).bit_count()


def flipped(code: str, bits: list[int]) -> str:
    value = int(code, 16)
    for bit in bits:
        value ^= 1 << bit
    return f"{value:064x}"


def jpeg(gray: Gray, quality: int) -> Gray:
    coded = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)


def test_a_hash_is_64_hexadecimal_digits() -> None:
    gray = tissue(0)
    assert len(perceptual_hash(gray, find_sector(gray))) == 64
    assert distance(gray, gray) == 0


def test_gain_size_shape_and_compression_hardly_change_the_hash() -> None:
    gray = tissue(1)
    brighter = np.clip(gray * 1.2, 0, 255).astype(np.uint8)
    stretched = np.asarray(cv2.resize(gray, (700, 300)), np.uint8)
    assert max(distance(gray, changed) for changed in (brighter, stretched, jpeg(gray, 50))) <= 16


def test_a_crop_is_put_back_into_its_place() -> None:
    frame = small_frame(np.full((64, 32), 200, np.uint8), (64, 32, 96, 96), (128, 128))
    assert (frame[16:48, 32:48] == 200).all() and frame.sum() == 200 * 32 * 16


def test_different_tissue_is_far_apart() -> None:
    assert min(distance(tissue(0), tissue(seed)) for seed in range(2, 12)) > 64


def test_the_search_finds_every_pair_within_31_bits() -> None:
    generator = np.random.default_rng(3)
    hashes = [generator.bytes(32).hex() for _ in range(200)]
    spread = [flipped(code, generator.choice(256, 31, replace=False).tolist()) for code in hashes]
    pairs = near_duplicate_pairs(
        hashes + spread, lambda index: tissue(index % 200, 64), max_distance=31
    )
    assert pairs == [(index, index + 200) for index in range(200)]


def test_near_hashes_of_unlike_pictures_are_no_pair() -> None:
    code = "0f" * 32
    assert near_duplicate_pairs([code, flipped(code, [3])], lambda index: tissue(index, 64)) == []
    assert near_duplicate_pairs([code, code], lambda index: tissue(index, 64)) == []


def test_pictures_are_loaded_for_candidates_only() -> None:
    generator = np.random.default_rng(4)
    hashes = [generator.bytes(32).hex() for _ in range(50)]
    loaded: list[int] = []

    def load(index: int) -> Gray:
        loaded.append(index)
        return tissue(0, 64)

    assert near_duplicate_pairs([*hashes, hashes[7]], load) == [(7, 50)]
    assert sorted(loaded) == [7, 50]


def test_a_thousand_copies_give_a_pair_each() -> None:
    pairs = near_duplicate_pairs(["ab" * 32] * 1000, lambda index: tissue(0, 64))
    assert pairs == [(0, index) for index in range(1, 1000)]


def test_no_hashes_give_no_pairs() -> None:
    assert near_duplicate_pairs([], tissue) == []


def test_the_frames_that_stand_in_two_folders_are_found(shared_data: Path) -> None:
    full = {path.stem: path for path in (shared_data / "barcelona_head/images").iterdir()}
    stretched = {
        path.stem: path for path in sorted((shared_data / "barcelona/Images").glob("*Plane3*"))[:90]
    }
    shared = [stem for stem in full if stem in stretched]
    paths = [*(full[stem] for stem in shared), *stretched.values()]
    grays = [np.asarray(cv2.imdecode(np.fromfile(path, np.uint8), 0), np.uint8) for path in paths]
    sectors = [find_sector(gray) for gray in grays]
    hashes = [perceptual_hash(gray, sector) for gray, sector in zip(grays, sectors, strict=True)]

    def load(index: int) -> Gray:
        crop = crop_to_sector(grays[index], sectors[index])
        return small_frame(crop, sectors[index].box, grays[index].shape)

    pairs = near_duplicate_pairs(hashes, load)
    across = {
        (paths[i].stem, paths[j].stem) for i, j in pairs if paths[i].stem[:12] != paths[j].stem[:12]
    }
    assert across == set() and len(shared) >= 5
    assert {paths[i].stem for i, j in pairs if paths[i].stem == paths[j].stem} == set(shared)
