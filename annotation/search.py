"""Find the best of many shapes: a dense grid, then a seeded climb from good candidates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.annotation.echo_maps import Field

SEED = 0
STARTS = 18
CHILDREN = 60
SURVIVORS = {0: 12, 1: 6, 3: 3}  # after this round, keep so many
ROUNDS = 9
COOLING = 0.65

PULL = 8.0  # of a person's box: edges that are all off by a tenth of its size cost 0.3
AROUND_BOX = 4000  # random shapes near a person's box
NEARER = 0.3  # the starts near a box are closer to each other by this factor

# parameters [n, k] -> scores [n]; impossible shapes score below -90
Score = Callable[[Field], Field]


@dataclass(frozen=True)
class Found:
    """The best shapes, best first: parameters [n, k] and their scores [n]."""

    shapes: Field
    scores: Field


def search(score: Score, candidates: Field, apart: Field, steps: Field) -> Found:
    """Score `candidates` [n, k] and climb from the best ones, by steps [k].

    The starts differ by at least `apart` [k] in one parameter.
    """
    scores = score(candidates)
    chosen = _different(candidates, scores, apart)
    best, best_scores = candidates[chosen], scores[chosen]
    generator = np.random.default_rng(SEED)
    for number in range(ROUNDS):
        noise = (
            generator.standard_normal((len(best), CHILDREN, best.shape[1]))
            * steps
            * COOLING**number
        )
        noise[:, 0] = 0  # the parent competes
        families = best[:, None] + noise
        marks = score(families.reshape(-1, best.shape[1])).reshape(len(best), CHILDREN)
        winner = marks.argmax(axis=1)
        best, best_scores = families[np.arange(len(best)), winner], marks.max(axis=1)
        order = np.argsort(-best_scores, kind="stable")[: SURVIVORS.get(number, len(best))]
        best, best_scores = best[order], best_scores[order]
    return Found(best, best_scores)


@dataclass(frozen=True)
class Around:
    """A person's box x0, y0, x1, y1 in working pixels, near which a shape is to be found."""

    box: tuple[float, float, float, float]

    def cost(self, x: Field, y: Field, reach_x: Field, reach_y: Field) -> Field:
        """The cost [n] of shapes whose own boxes lie at (x, y) +- (reach_x, reach_y) [n]."""
        x0, y0, x1, y1 = self.box
        wide, high = (
            (x1 - x0 + y1 - y0) / 4 + (x1 - x0) / 2,
            (x1 - x0 + y1 - y0) / 4 + (y1 - y0) / 2,
        )
        off = ((x - reach_x - x0) / wide, (x + reach_x - x1) / wide,
               (y - reach_y - y0) / high, (y + reach_y - y1) / high)  # fmt: skip
        return np.asarray(PULL * sum(each**2 for each in off))

    def middles(self, generator: np.random.Generator, count: int) -> Field:
        """Random centers [count, 2] near the middle of the box."""
        x0, y0, x1, y1 = self.box
        size = np.array([x1 - x0, y1 - y0])
        near = generator.normal(0, 0.06, (count, 2)) * size
        return np.asarray(near + np.array([x0 + x1, y0 + y1]) / 2)


def search_around(
    around: Around,
    score: Score,
    reach: Callable[[Field], tuple[Field, Field]],
    candidates: Field,
    apart: Field,
    steps: Field,
) -> Found:
    """`search` where a shape far from a person's box costs something.

    `reach` gives half the width and the height [n] of the boxes of shapes [n, k].
    """

    def near(shapes: Field) -> Field:
        return np.asarray(score(shapes) - around.cost(shapes[:, 0], shapes[:, 1], *reach(shapes)))

    return search(near, candidates, apart * NEARER, steps)


def _different(candidates: Field, scores: Field, apart: Field) -> list[int]:
    """Indices of good candidates, best first, no two closer than `apart` in every parameter."""
    order = np.argsort(-scores, kind="stable")[:600]
    near: NDArray[np.bool_] = np.zeros(len(order), np.bool_)
    chosen: list[int] = []
    for place, index in enumerate(order):
        if near[place]:
            continue
        chosen.append(int(index))
        if len(chosen) == STARTS:
            break
        near |= (np.abs(candidates[order] - candidates[index]) < apart).all(axis=1)
    return chosen
