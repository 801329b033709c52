"""The frames of each batch: balanced by plane, center and patient; and the mask curriculum."""

from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from sono.training.runtime.distributed import get_rank

# How far a mask may be trusted, best first: what a person drew or has accepted, a network's
# proposal, a rule's.
GRADES = {"manual": 0, "import": 0, "box": 0, "sam": 1, "model": 1, "heuristic": 2}


def seeded(seed: int, number: int) -> torch.Generator:
    """The generator of one step or epoch, so that a resumed run draws the same numbers."""
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def process_seed(seed: int, step: int) -> int:
    """The seed of the random layers (dropout) in a step, different on each process."""
    return (seed * 1_000_003 + step) * 4_099 + get_rank()


def balancing_weights(groups: Sequence[Hashable], power: float) -> Tensor:
    """Sampling weights [n]: the count of each frame's group to the power of -`power`.

    1 makes groups equal.
    """
    counts = Counter(groups)
    return torch.tensor([counts[group] ** -power for group in groups], dtype=torch.float64)


def mask_grade(source: str, state: str) -> int:
    """The grade of a mask: 0 if a person drew or reviewed it, 1 for a network, 2 for a rule."""
    return GRADES[source] if state == "proposed" else 0


def curriculum_weight(grade: int, done: float, curriculum: float) -> float:
    """The weight from 0 to 1 of masks of `grade` after the share `done` of a run.

    Masks of grade 0 count from the start. The weight of grade 1 grows until half of the share
    `curriculum` of the run is over, that of grade 2 until all of it is.
    """
    full = curriculum * grade / max(GRADES.values())
    return min(1.0, done / full) if full else 1.0


def epoch_rows(
    weights: Tensor, batch_size: int, seed: int, epoch: int, places: Sequence[int] | None = None
) -> list[list[int]]:
    """The batches of one epoch, which depend only on seed and epoch; the remainder is dropped.

    Equal `weights` [n] give a permutation; otherwise rows are drawn with replacement. A row fills
    as many consecutive places of the batch as `places` [n] states (one each if None); an epoch has
    n places in any case.
    """
    generator = seeded(seed, epoch)
    count = len(weights)
    if bool((weights == weights[0]).all()):
        order = torch.randperm(count, generator=generator)
    else:
        order = torch.multinomial(weights, count, replacement=True, generator=generator)
    if places is not None:
        order = order.repeat_interleave(torch.tensor(places)[order])[:count]
    size = min(batch_size, count)
    return [order[start : start + size].tolist() for start in range(0, count - size + 1, size)]
