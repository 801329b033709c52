"""Head and abdomen outlines: the ellipse that best follows a bright contour or arcs of it."""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from sono.annotation.echo_maps import EchoMaps, Field, sample
from sono.annotation.search import AROUND_BOX, SEED, Around, Found, search, search_around

POINTS = 48
ANGLES = np.arange(POINTS) * 2 * np.pi / POINTS
SHAPES = ((0.95, (0,)), (0.78, (0, 30, 60, 90, 120, 150)))  # short over long axis, turns in degrees
IMPOSSIBLE = -99.0


@dataclass(frozen=True)
class EllipseModel:
    """Weights of the evidence along an ellipse, and of the prior on its shape.

    Evidence, averaged over the contour: ridge across it (times `gain`, at least -`floor`), slope up
    to it from inside (`edge`, taken `depth` working pixels in), `rise` of brightness from there to
    it, brightness on it, and how much darker it is just inside than in the middle (`hollow`: fluid
    around the body). `lateral` is the weight of the sides, where the beam is parallel to the
    contour; top and bottom have weight 1. `weakest` adds the two weakest quarters.

    The fitted line is in the middle of the contour, and people draw around its outside: `margin`
    is what they add to the long and the short half axis, in working pixels. `radii`, as shares of
    the longer side, are those that the search begins with.
    """

    gain: float
    floor: float
    beyond: float
    edge: float
    depth: float
    rise: float
    bright: float
    hollow: float
    lateral: float
    weakest: float
    radius: float
    size: float
    off_x: float
    off_y: float
    middle_y: float
    flat: float
    upright: float
    margin: tuple[float, float]
    radii: tuple[float, ...]


def find_ellipses(maps: EchoMaps, model: EllipseModel, around: Around | None = None) -> Found:
    """The best ellipses around the contour, best first: those that fill a person's box, if given.

    Each has x, y, two half axes and the turn of the first one in radians; working pixels.
    """
    side = max(maps.shape)
    # the turn of a near circle has no meaning
    apart = np.array([0.05, 0.05, 0.06, 0.06, 9.0]) * side
    steps = np.array([0.04 * side] * 4 + [0.3])
    score = partial(score_ellipses, maps, model)
    if around is None:
        found = search(score, _grid(maps.shape, model.radii), apart, steps)
    else:
        reach = partial(_reach, model)
        found = search_around(around, score, reach, _near(around), apart, steps)
    return Found(_with_margin(model, found.shapes), found.scores)


def _with_margin(model: EllipseModel, shapes: Field) -> Field:
    """Ellipses [n, 5] in the middle of the contour, enlarged to its outside."""
    first_longer = shapes[:, 2] >= shapes[:, 3]
    long, short = model.margin
    outer = shapes.copy()
    outer[:, 2] += np.where(first_longer, long, short)
    outer[:, 3] += np.where(first_longer, short, long)
    return outer


def _reach(model: EllipseModel, shapes: Field) -> tuple[Field, Field]:
    """Half the width and the height [n] of the boxes of ellipses [n, 5] with their rims."""
    _, _, a, b, turn = _with_margin(model, shapes).T
    across = np.hypot(a * np.cos(turn), b * np.sin(turn))
    return across, np.hypot(a * np.sin(turn), b * np.cos(turn))


def _near(around: Around) -> Field:
    """Random ellipses [n, 5] of about the size of a box."""
    generator = np.random.default_rng(SEED)
    x0, y0, x1, y1 = around.box
    shapes = np.empty((AROUND_BOX, 5))
    shapes[:, :2] = around.middles(generator, AROUND_BOX)
    longer = max(x1 - x0, y1 - y0)
    shapes[:, 2:4] = longer * generator.uniform(0.3, 0.62, (AROUND_BOX, 2))
    shapes[:, 4] = generator.uniform(0, np.pi, AROUND_BOX)
    return shapes


def ellipse_mask(shape: Field, scale: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Ellipse `shape` (working pixels) as a mask [H, W] of stored pixels."""
    x, y, a, b, turn = (float(value) for value in shape)
    x, y = (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5
    a, b = a / scale, b / scale
    rows, columns = np.ogrid[: size[0], : size[1]]
    along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
    across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
    return np.asarray((along / a) ** 2 + (across / b) ** 2 <= 1)


def score_ellipses(maps: EchoMaps, model: EllipseModel, shapes: Field) -> Field:
    """Scores [n] of ellipses [n, 5]; IMPOSSIBLE for those too small, too large or too flat."""
    side = max(maps.shape)
    long, short = np.maximum(shapes[:, 2], shapes[:, 3]), np.minimum(shapes[:, 2], shapes[:, 3])
    possible = (short > 0.5 * long) & (short > 0.1 * side) & (long < 0.62 * side)
    scores = np.full(len(shapes), IMPOSSIBLE)
    kept = shapes[possible]
    if len(kept):
        scores[possible] = _evidence(maps, model, kept) - _surprise(maps.shape, model, kept)
    return scores


def _evidence(maps: EchoMaps, model: EllipseModel, shapes: Field) -> Field:
    x, y, nx, ny = _contour(shapes)
    within, (xx, xy, yy, level) = sample(x, y, maps.bend_xx, maps.bend_xy, maps.bend_yy, maps.level)
    bend = xx * nx * nx + 2 * xy * nx * ny + yy * ny * ny
    ridge = np.where(within, np.clip(-bend * model.gain, -model.floor, 1), -model.beyond)
    inner_x, inner_y = x - model.depth * nx, y - model.depth * ny
    both, (slope_x, slope_y, inner) = sample(
        inner_x, inner_y, maps.slope_x, maps.slope_y, maps.level
    )
    slope = slope_x * nx + slope_y * ny
    total = ridge + model.edge * np.clip(slope * 3, -1, 1) + model.bright * np.clip(level, -1, 2)
    total += model.rise * np.where(within & both, np.clip(level - inner, -1, 1), 0)
    weight = model.lateral + (1 - model.lateral) * ny * ny
    quarters = _by_quarter(total * weight) / _by_quarter(weight)
    mean = (total * weight).sum(axis=1) / weight.sum(axis=1)
    weakest = np.sort(quarters, axis=1)[:, :2].mean(axis=1)
    return np.asarray(mean + model.weakest * weakest - model.hollow * _hollow(maps, shapes))


def _hollow(maps: EchoMaps, shapes: Field) -> Field:
    """How much darker than the middle it is just inside the contour, averaged over the contour."""
    within, (near,) = sample(*_contour(shapes, 0.83)[:2], maps.level)
    middle = sample(*_contour(shapes, 0.45)[:2], maps.level)[1][0].mean(axis=1, keepdims=True)
    return np.asarray(np.where(within, np.clip(middle - near - 0.2, 0, 1.5), 0).mean(axis=1))


def _surprise(frame: tuple[int, int], model: EllipseModel, shapes: Field) -> Field:
    """The cost of size, place and form.

    Outlines are large, near the middle, and never long and thin.
    """
    height, width = frame
    x, y, a, b, turn = shapes.T
    size = np.log(np.sqrt(a * b) / max(frame) / model.radius)
    off_x, off_y = 2 * x / width - 1, 2 * y / height - 1 - model.middle_y
    form = np.log(a / b)
    cost = (
        model.size * size**2
        + model.off_x * off_x**2
        + model.off_y * off_y**2
        + model.flat * np.abs(form)
    )
    return np.asarray(cost + model.upright * np.cos(2 * turn) * form)


def _contour(shapes: Field, part: float = 1.0) -> tuple[Field, Field, Field, Field]:
    """Points x, y and outward normals [n, POINTS] of ellipses shrunk to `part`."""
    x, y, a, b, turn = (shapes[:, [column]] for column in range(5))
    cos, sin, u, v = np.cos(turn), np.sin(turn), np.cos(ANGLES), np.sin(ANGLES)
    px = x + part * (a * u * cos - b * v * sin)
    py = y + part * (a * u * sin + b * v * cos)
    nx, ny = u / a * cos - v / b * sin, u / a * sin + v / b * cos
    length = np.sqrt(nx * nx + ny * ny)
    return px, py, nx / length, ny / length


def _by_quarter(values: Field) -> Field:
    return np.asarray(values.reshape(len(values), 4, POINTS // 4).sum(axis=2))


@lru_cache(maxsize=16)
def _grid(frame: tuple[int, int], radii: tuple[float, ...]) -> Field:
    """Candidate ellipses [n, 5] that lie within the frame, or nearly."""
    height, width = frame
    blocks = []
    for radius in (max(frame) * part for part in radii):
        step = max(5.0, radius * 0.16)
        xs, ys = np.meshgrid(
            np.arange(0.18, 0.83, step / width) * width,
            np.arange(0.18, 0.83, step / height) * height,
        )
        for flatness, turns in SHAPES:
            for turn in turns:
                block = np.empty((xs.size, 5))
                block[:, 0], block[:, 1] = xs.ravel(), ys.ravel()
                block[:, 2], block[:, 3] = radius / np.sqrt(flatness), radius * np.sqrt(flatness)
                block[:, 4] = np.deg2rad(turn)
                blocks.append(block)
    shapes = np.concatenate(blocks)
    x, y, _, b, _ = shapes.T
    fits = (
        (x - b > -0.1 * width)
        & (x + b < 1.1 * width)
        & (y - b > -0.12 * height)
        & (y + b < 1.12 * height)
    )
    kept: Field = shapes[fits]
    return kept
