"""Which frames a batch is made of.

Balanced by plane, center and patient, and how masks open over a run.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from sono.training.runtime.distributed import get_rank

# How far a mask may be trusted, best first: what a person drew or has accepted, a network's
# proposal, a rule's.
GRADES = {"manual": 0, "import": 0, "box": 0, "sam": 1, "model": 1, "heuristic": 2}


def seeded(seed: int, number: int) -> torch.Generator:
    """Randomness of one step or epoch, so that a resumed run draws what an unbroken one would."""
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def process_seed(seed: int, step: int) -> int:
    """The seed of what layers draw at random in a step (dropout), another one on each process."""
    return (seed * 1_000_003 + step) * 4_099 + get_rank()


def balancing_weights(groups: Sequence[Hashable], power: float) -> Tensor:
    """How often each frame is drawn [n]: the count of its group to the power of -`power`.

    1 makes groups equal.
    """
    counts = Counter(groups)
    return torch.tensor([counts[group] ** -power for group in groups], dtype=torch.float64)


def mask_grade(source: str, state: str) -> int:
    """0 for a mask that a person drew or has looked at, 1 for a network's proposal, 2 for a
    heuristic one.
    """
    return GRADES[source] if state == "proposed" else 0


def opening(grade: int, done: float, curriculum: float) -> float:
    """The weight from 0 to 1 of masks of `grade` when the share `done` of a run is over.

    Masks of grade 0 count from the start. The weight of grade 1 grows until half of the share
    `curriculum` of the run is over, that of grade 2 until all of it is.
    """
    full = curriculum * grade / max(GRADES.values())
    return min(1.0, done / full) if full else 1.0


def epoch_rows(
    weights: Tensor, batch_size: int, seed: int, epoch: int, places: Sequence[int] | None = None
) -> list[list[int]]:
    """The batches of one epoch, which depend on seed and epoch alone; the short rest is left out.

    Equal `weights` [n] give a permutation; else as many rows are drawn with replacement. A row
    takes as many `places` [n] in a row of the batch as given (one each if None); an epoch has n
    places in any case.
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
