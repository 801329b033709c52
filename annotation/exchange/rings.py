"""Outlines of masks as polygons that follow the edges of the pixels.

A polygon along pixel edges is read back exactly, whatever the rasterizer does with fractions. Holes
cannot be expressed by most formats: they are filled, and recorded as a loss.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sono.annotation.exchange.frames import Content, ExportMask
from sono.annotation.exchange.shapes import draw_polygons
from sono.curation.core.arrays import Mask
from sono.curation.core.errors import SonoError

Ring = NDArray[np.float64]  # [N, 2], x and y

# Each side of a pixel as neighbor, start and end (rows, columns), clockwise on the screen.
SIDES = (
    ((-1, 0), (0, 0), (0, 1)),
    ((0, 1), (0, 1), (1, 1)),
    ((1, 0), (1, 1), (1, 0)),
    ((0, -1), (1, 0), (0, 0)),
)


def polygons_of(mask: ExportMask, content: Content) -> list[Ring]:
    """The outer outlines of a mask, one for each part; what they lose is recorded in `content`."""
    rings, holes = trace(mask.pixels)
    iou = drawn_iou(rings, mask.pixels)
    if iou < 1:
        what = f"{len(holes)} hole{'s' * (len(holes) > 1)} filled" if holes else "not read back"
        content.lose(mask, iou, what)
    return rings


def drawn_iou(rings: Sequence[Ring], mask: Mask) -> float:
    """Intersection over union of `mask` [H, W] and the polygons as `sono masks import` draws them.

    It is 0 if they are refused.
    """
    try:
        drawn = draw_polygons([ring.ravel() for ring in rings], (mask.shape[0], mask.shape[1]))
    except SonoError:
        return 0.0
    return float((drawn & mask).sum() / (drawn | mask).sum())


def trace(mask: Mask) -> tuple[list[Ring], list[Ring]]:
    """The outer outlines and the holes of a mask [H, W], in pixel edges.

    Pixels that touch only at a corner belong to different parts.
    """
    width = mask.shape[1] + 1
    edges = _edges(mask, width)
    outer: list[Ring] = []
    holes: list[Ring] = []
    for start in sorted(edges):
        while edges.get(start):
            ring = _follow(edges, start, width)
            (outer if _signed_area(ring) > 0 else holes).append(ring)
    return outer, holes


def _edges(mask: Mask, width: int) -> dict[int, list[int]]:
    """The directed pixel edges of an outline by their start; a corner is y * width + x."""
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    edges: dict[int, list[int]] = {}
    for (down, right), start, end in SIDES:
        near = padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
        y, x = np.nonzero(mask & ~near)
        starts, ends = ((y + dy) * width + x + dx for dy, dx in (start, end))
        for one, other in zip(starts.tolist(), ends.tolist(), strict=True):
            edges.setdefault(one, []).append(other)
    return edges


def _follow(edges: dict[int, list[int]], start: int, width: int) -> Ring:
    """Take one closed outline out of `edges`; only corners where it turns are kept."""
    right_turn = {1: width, width: -1, -1: -width, -width: 1}
    corners = []
    place, step = start, 0
    while True:
        ends = edges[place]
        # at a corner between two pixels, the right turn stays with the same pixel
        turn = place + right_turn.get(step, 0)
        end = turn if turn in ends else ends[0]
        ends.remove(end)
        if end - place != step:
            corners.append(place)
        place, step = end, end - place
        if place == start and not edges[start]:
            break
        if place == start and place + right_turn[step] not in edges[start]:
            break
    found = np.array(corners)
    return np.stack([found % width, found // width], axis=1).astype(np.float64)


def _signed_area(ring: Ring) -> float:
    """The area of a ring, positive if it is clockwise on the screen."""
    after = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]).sum()) / 2


def joined(rings: Sequence[Ring]) -> Ring:
    """Several rings as one, by cuts without width between their nearest corners."""
    whole = rings[0]
    for ring in rings[1:]:
        apart = np.abs(whole[:, None] - ring[None]).sum(axis=2)
        at, near = np.unravel_index(int(apart.argmin()), apart.shape)
        around = np.roll(ring, -int(near), axis=0)
        whole = np.concatenate([whole[: at + 1], around, around[:1], whole[at:]])
    return whole
