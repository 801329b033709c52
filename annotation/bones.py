"""Long bones: a capsule around the brightest straight or slightly bowed stick with a shadow."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sono.annotation.echo_maps import EchoMaps, Field, sample
from sono.annotation.search import AROUND_BOX, SEED, Around, Found, search, search_around

POINTS = 20
ALONG = np.linspace(-1, 1, POINTS)
THICKNESS = 0.113  # of the length: the usual ratio for a femoral shaft with its soft edge
LENGTHS = (0.26, 0.34, 0.43, 0.54, 0.68)  # of the longer side
SEEDS = 450  # brightest places that are tried
IMPOSSIBLE = -99.0


@dataclass(frozen=True)
class BoneModel:
    """Weights of the evidence along a bone, and of the prior on its shape.

    Evidence: by how much the stick is brighter than the tissue on its flanks (`flank` half lengths
    plus `margin` working pixels away), on average and where it is weakest (`continuity`); whether
    it stops at its ends (`ends`); brightness; darkness behind it (`shadow`).
    """

    inset: float
    flank: float
    margin: float
    brighter_side: float
    floor: float
    ceiling: float
    past: float
    continuity: float
    ends: float
    bright: float
    shadow: float
    length: float
    size: float
    tilt: float
    off_x: float
    off_y: float
    middle_y: float
    bow: float


def find_bones(maps: EchoMaps, model: BoneModel, around: Around | None = None) -> Found:
    """The best sticks, best first; those that fill a person's box if there is one.

    A stick is x, y, half length (working pixels), tilt (radians) and bow over half length.
    """
    side = max(maps.shape)
    apart = np.array([0.05 * side, 0.05 * side, 0.08 * side, 0.3, 1.0])
    steps = np.array([0.03 * side] * 3 + [0.15, 0.15])
    score = partial(score_bones, maps, model)
    if around is None:
        return search(score, _candidates(maps), apart, steps)
    return search_around(around, score, _reach, _near(around), apart, steps)


def _reach(shapes: Field) -> tuple[Field, Field]:
    """Half the width and the height [n] of the boxes of sticks [n, 5]."""
    _, _, half, tilt, _ = shapes.T
    past = half * THICKNESS  # of the middle line, on every side
    return half * np.abs(np.cos(tilt)) + past, half * np.abs(np.sin(tilt)) + past


def _near(around: Around) -> Field:
    """Random sticks [n, 5] near the two diagonals of a box."""
    generator = np.random.default_rng(SEED)
    x0, y0, x1, y1 = around.box
    shapes = np.zeros((AROUND_BOX, 5))
    shapes[:, :2] = around.middles(generator, AROUND_BOX)
    shapes[:, 2] = np.hypot(x1 - x0, y1 - y0) * generator.uniform(0.35, 0.55, AROUND_BOX)
    slope = generator.choice([-1, 1], AROUND_BOX) * np.arctan2(y1 - y0, x1 - x0)
    shapes[:, 3] = slope + generator.normal(0, 0.15, AROUND_BOX)
    return shapes


def bone_mask(shape: Field, scale: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Stick `shape` of working pixels as a capsule [H, W] of stored pixels between its two ends."""
    x, y, half, tilt, _ = (float(value) for value in shape)
    x, y, half = (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5, half / scale
    radius = half * THICKNESS
    rows, columns = np.ogrid[: size[0], : size[1]]
    along = (columns - x) * np.cos(tilt) + (rows - y) * np.sin(tilt)
    across = (rows - y) * np.cos(tilt) - (columns - x) * np.sin(tilt)
    past_end = np.maximum(np.abs(along) - (half - radius), 0)
    return np.asarray(past_end**2 + across**2 <= radius**2)


def score_bones(maps: EchoMaps, model: BoneModel, shapes: Field) -> Field:
    """Scores [n] of sticks [n, 5]; IMPOSSIBLE for those too short or too long."""
    side = max(maps.shape)
    possible = (shapes[:, 2] > 0.1 * side) & (shapes[:, 2] < 0.45 * side)
    scores = np.full(len(shapes), IMPOSSIBLE)
    kept = shapes[possible]
    if len(kept):
        scores[possible] = _evidence(maps, model, kept) - _surprise(maps.shape, model, kept)
    return scores


def _evidence(maps: EchoMaps, model: BoneModel, shapes: Field) -> Field:
    half, tilt, bow = shapes[:, [2]], shapes[:, [3]], shapes[:, [4]]
    down_x, down_y = -np.sin(tilt), np.cos(tilt)
    flank = model.flank * half + model.margin
    sag = bow * half * (1 - ALONG**2)
    x, y = _on_axis(shapes, ALONG * (1 - model.inset))
    x, y = x + sag * down_x, y + sag * down_y
    on = _bone(maps, x, y)
    above = _bone(maps, x - flank * down_x, y - flank * down_y)
    below = _bone(maps, x + flank * down_x, y + flank * down_y)
    behind = _bone(maps, x + 2 * flank * down_x, y + 2 * flank * down_y)
    tissue = (
        model.brighter_side * np.maximum(above, below)
        + (1 - model.brighter_side) * (above + below) / 2
    )
    outshines = np.clip(on - tissue, -model.floor, model.ceiling)
    weakest = np.sort(outshines, axis=1)[:, : POINTS // 4].mean(axis=1)
    total = (
        outshines.mean(axis=1)
        + model.continuity * weakest
        - model.ends * _past_ends(maps, model, shapes)
    )
    total += model.bright * np.clip(on.mean(axis=1), -2, 3) - model.shadow * np.clip(
        behind.mean(axis=1), -1, 2
    )
    return np.asarray(total)


def _past_ends(maps: EchoMaps, model: BoneModel, shapes: Field) -> Field:
    """How far a stick continues beyond its two ends, averaged."""
    down_x, down_y = -np.sin(shapes[:, [3]]), np.cos(shapes[:, [3]])
    flank = model.flank * shapes[:, [2]] + model.margin
    x, y = _on_axis(shapes, np.array([-1, 1]) * (1 + model.past))
    tissue = _bone(maps, x - flank * down_x, y - flank * down_y) + _bone(
        maps, x + flank * down_x, y + flank * down_y
    )
    return np.asarray(np.clip(_bone(maps, x, y) - tissue / 2, -0.5, model.ceiling).mean(axis=1))


def _surprise(frame: tuple[int, int], model: BoneModel, shapes: Field) -> Field:
    """The cost of length, place, tilt and bow.

    A bone is measured across the beam, in the upper middle of the frame.
    """
    height, width = frame
    x, y, half, tilt, bow = shapes.T
    length = np.log(2 * half / max(frame) / model.length)
    tilt = (tilt + np.pi / 2) % np.pi - np.pi / 2
    off_x, off_y = 2 * x / width - 1, 2 * (y / height - model.middle_y)
    place = model.off_x * off_x**2 + model.off_y * off_y**2
    return np.asarray(model.size * length**2 + model.tilt * tilt**2 + place + model.bow * bow**2)


def _on_axis(shapes: Field, along: Field) -> tuple[Field, Field]:
    x, y, half, tilt = (shapes[:, [column]] for column in range(4))
    return x + along * half * np.cos(tilt), y + along * half * np.sin(tilt)


def _bone(maps: EchoMaps, x: Field, y: Field) -> Field:
    return sample(x, y, maps.bone, beyond=-1.0)[1][0]


def _candidates(maps: EchoMaps) -> Field:
    """Straight sticks [n, 5] of all lengths and tilts on the brightest places."""
    height, width = maps.shape
    ys, xs = np.mgrid[
        int(0.08 * height) : int(0.85 * height) : 3, int(0.15 * width) : int(0.88 * width) : 5
    ]
    ys, xs = ys.ravel(), xs.ravel()
    brightest = np.argsort(-maps.bone[ys, xs], kind="stable")[:SEEDS]
    blocks = []
    for length in LENGTHS:
        for tilt in np.deg2rad(np.arange(-65, 66, 10 if length > 0.4 else 13)):
            block = np.zeros((len(brightest), 5))
            block[:, 0], block[:, 1] = xs[brightest], ys[brightest]
            block[:, 2], block[:, 3] = length * max(maps.shape) / 2, tilt
            blocks.append(block)
    return np.concatenate(blocks)
