"""The weight-free proposer on drawn outlines, on real frames, and on frames without outlines."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sono.annotation.echo_maps import echo_maps, sample, sector_of
from sono.annotation.proposers import OutlineProposer, box_of, propose_unlabeled
from sono.annotation.search import search
from sono.curation.core.rle import decode

PROPOSER = OutlineProposer()


def speckled(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).rayleigh(22, (300, 400))
    return cv2.GaussianBlur(noise.clip(0, 255).astype(np.uint8), (0, 0), 1.5)


def head_frame(arcs: tuple[tuple[int, int], ...] = ((0, 360),)) -> tuple[np.ndarray, np.ndarray]:
    """A bright rim on speckle, whole or in arcs (degrees), and what it encloses."""
    frame, truth = speckled(), np.zeros((300, 400), np.uint8)
    for start, end in arcs:
        cv2.ellipse(frame, (190, 150), (120, 92), 10, start, end, 230, 9)
    cv2.ellipse(truth, (190, 150), (123, 95), 10, 0, 360, 1, -1)
    return cv2.GaussianBlur(frame, (0, 0), 2), truth.astype(bool)


def bone_frame() -> tuple[np.ndarray, np.ndarray]:
    frame, truth = speckled(), np.zeros((300, 400), np.uint8)
    cv2.line(frame, (110, 150), (290, 120), 240, 13)
    cv2.line(truth, (112, 150), (288, 120), 1, 18)
    return cv2.GaussianBlur(frame, (0, 0), 2), truth.astype(bool)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_closed_rim_is_found() -> None:
    frame, truth = head_frame()
    found = PROPOSER.propose(frame, "transthalamic", "head", ())[0]
    assert found.structure == "fetal head"
    assert dice(found.mask, truth) > 0.95


def test_two_arcs_are_enough() -> None:
    frame, truth = head_frame(((20, 160), (200, 340)))
    assert dice(PROPOSER.propose(frame, "transthalamic", "head", ())[0].mask, truth) > 0.9


def test_a_stick_is_found_and_named_by_its_plane() -> None:
    frame, truth = bone_frame()
    found = PROPOSER.propose(frame, "humerus", "upper limb", ())[0]
    assert found.structure == "humerus"
    assert dice(found.mask, truth) > 0.75


def test_a_rim_is_more_convincing_than_speckle() -> None:
    rim = PROPOSER.propose(head_frame()[0], "transthalamic", "head", ())[0]
    nothing = PROPOSER.propose(speckled(), "transthalamic", "head", ())[0]
    assert rim.score > 0.9
    assert nothing.score < 0.5


def test_without_a_label_the_kind_is_guessed_and_marked() -> None:
    for structure, (frame, truth) in {"fetal head": head_frame(), "femur": bone_frame()}.items():
        found = PROPOSER.propose(frame, None, None, ())
        assert [each.structure for each in found] == [structure]
        assert json.loads(found[0].prompt or "")["type"] == "hypothesis"
        assert dice(found[0].mask, truth) > 0.75


def test_planes_without_an_outline_get_nothing() -> None:
    assert PROPOSER.propose(head_frame()[0], "four_chamber", "heart", ()) == []
    assert PROPOSER.propose(head_frame()[0], "other", None, ()) == []


@pytest.mark.parametrize("shape", [(300, 400), (1, 1), (2, 500), (500, 3)])
def test_odd_frames_never_fail(shape: tuple[int, int]) -> None:
    assert propose_unlabeled(np.zeros(shape, np.uint8)) is None
    found = propose_unlabeled(np.full(shape, 99, np.uint8))
    assert (found is None) == (max(shape) > 4 * min(shape))
    assert found is None or found.shape == shape


def test_the_same_frame_gives_the_same_mask() -> None:
    first, second = (propose_unlabeled(head_frame()[0]) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_box_is_half_open_and_tight() -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[2:5, 3:9] = True
    assert box_of("femur", mask) == ("femur", 3, 2, 9, 5)


def test_samples_beyond_the_map_get_the_given_value() -> None:
    within, values = sample(
        np.array([2.0, 3.0]), np.array([1.0, 0.0]), np.arange(6.0).reshape(2, 3), beyond=-1
    )
    assert (within.tolist(), values[0].tolist()) == ([True, False], [5.0, -1.0])


def test_the_sector_is_a_hull_and_leaves_text_out() -> None:
    small = np.zeros((120, 160), np.uint8)
    cv2.fillConvexPoly(small, np.array([[80, 5], [30, 110], [130, 110]]), 60)
    small[2:8, 140:158] = 200
    sector = sector_of(small)
    assert sector[100, 80]
    assert not sector[5, 150]


def test_ridges_bend_down_and_the_border_is_no_ridge() -> None:
    small = np.full((160, 160), 40, np.uint8)
    small[:, 78:83] = 220
    maps = echo_maps(small)
    assert maps.bend_xx[80, 80] < -0.05
    assert abs(maps.bend_xx[80, 0]) < 0.02


def test_a_search_climbs_to_the_top_between_its_candidates() -> None:
    top = np.array([3.3, -1.7])
    grid = np.stack(np.meshgrid(np.arange(-8.0, 9, 2), np.arange(-8.0, 9, 2)), -1).reshape(-1, 2)
    found = search(
        lambda shapes: -((shapes - top) ** 2).sum(axis=1),
        grid,
        np.array([1.0, 1.0]),
        np.array([1.0, 1.0]),
    )
    assert found.shapes[0] == pytest.approx(top, abs=0.2)
    assert (np.diff(found.scores) <= 0).all()


def test_real_heads_of_nijmegen(shared_data: Path) -> None:
    results = []
    for mask in sorted((shared_data / "nijmegen" / "masks").glob("*.png"))[::33]:
        path = shared_data / "nijmegen" / "training_set" / mask.name.replace("_Mask", "")
        frame, truth = (
            cv2.imdecode(np.fromfile(each, np.uint8), cv2.IMREAD_GRAYSCALE) for each in (path, mask)
        )
        results.append(
            dice(PROPOSER.propose(frame, "transthalamic", "head", ())[0].mask, truth > 127)
        )
    assert np.median(results) > 0.9


@pytest.mark.parametrize(
    ("category", "plane", "least"), [(2, "abdominal_circumference", 0.7), (3, "femur", 0.6)]
)
def test_real_abdomens_and_femurs_of_barcelona(
    shared_data: Path, category: int, plane: str, least: float
) -> None:
    content = json.loads((shared_data / "barcelona" / "landmark_masks.coco.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    results = []
    for each in [each for each in content["annotations"] if each["category_id"] == category][::20]:
        path = shared_data / "barcelona" / "Images" / names[each["image_id"]]
        frame = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
        truth = decode(each["segmentation"]["counts"], 640, 640)
        results.append(dice(PROPOSER.propose(frame, plane, None, ())[0].mask, truth))
    assert np.median(results) > least
