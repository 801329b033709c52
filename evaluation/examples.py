"""Which frames and masks the report shows: spread over the planes, in the order of a hash."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sono.curation.core.atomic import sha256
from sono.evaluation.region_control.measures import RegionFeatures
from sono.evaluation.summaries import Scored

EXAMPLES, HARDEST = 18, 12
FRAMES, MASKS = 6, 3  # of the figure of region control


def pick_examples(scored: Scored, image_ids: Sequence[str], count: int = EXAMPLES) -> list[int]:
    """The indices of up to `count` examples, half of them with wrong answers, which come first.

    The planes take turns, and the frames of a plane are in the order of a hash.
    """
    right = scored.predictions("all_one") == scored.present_truth
    order = _by_hash(range(len(image_ids)), image_ids)
    sides = [
        take_turns([number for number in order if right[number] == side], scored.truth.tolist())
        for side in (False, True)
    ]
    few = [min(len(side), count // 2) for side in sides]
    return sides[0][: count - few[1]] + sides[1][: count - few[0]]


def hardest_frames(scored: Scored, image_ids: Sequence[str], count: int = HARDEST) -> list[int]:
    """The indices of the wrong answers that are furthest above the truth, among the planes present.

    The margin is the cosine of the answer minus that of the truth.
    """
    scores = scored.scores["all_one"][:, scored.present]
    margin = scores.max(axis=1) - scores[np.arange(len(scores)), scored.present_truth]
    wrong = [number for number in range(len(image_ids)) if margin[number] > 0]
    return sorted(wrong, key=lambda number: (-margin[number], image_ids[number]))[:count]


def pick_masks(data: RegionFeatures, image_ids: Sequence[str]) -> list[list[int]]:
    """Masks (rows) of up to six frames with two structures or more.

    The planes take turns; the order is that of a hash.
    """
    by_frame: dict[int, list[int]] = {}
    for row in np.flatnonzero(data.contested):
        by_frame.setdefault(int(data.frame[row]), []).append(int(row))
    several = {frame: rows for frame, rows in by_frame.items() if len(rows) > 1}
    planes = {frame: int(data.plane[rows[0]]) for frame, rows in several.items()}
    shown = take_turns(_by_hash(several, image_ids), planes)[:FRAMES]
    return [_first_masks(several[frame], data, image_ids[frame]) for frame in shown]


def take_turns(numbers: Sequence[int], planes: Sequence[int] | Mapping[int, int]) -> list[int]:
    """`numbers` sorted so that every plane has its first one before any has its second.

    `planes` are those of the numbers.
    """
    seen: Counter[int] = Counter()
    turns = []
    for number in numbers:
        seen[planes[number]] += 1
        turns.append(seen[planes[number]])
    order = sorted(range(len(numbers)), key=lambda place: turns[place])
    return [numbers[place] for place in order]


def _by_hash(numbers: Iterable[int], image_ids: Sequence[str]) -> list[int]:
    return sorted(numbers, key=lambda number: sha256(image_ids[number].encode()))


def _first_masks(rows: Sequence[int], data: RegionFeatures, key: str) -> list[int]:
    """Up to three masks of a frame, in the order of a hash."""
    return sorted(
        rows, key=lambda row: sha256(f"{key}:{data.structures[data.structure[row]]}".encode())
    )[:MASKS]
