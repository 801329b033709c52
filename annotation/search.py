"""Find the best of many shapes: a dense grid, then a seeded climb from good candidates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.annotation.echo_maps import Field

SEED = 0
STARTS = 18
CHILDREN = 40
SURVIVORS = {0: 12, 1: 6, 3: 3}  # after this round, keep so many
ROUNDS = 6
COOLING = 0.65

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
