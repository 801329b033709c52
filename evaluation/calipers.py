"""Whether painted calipers change the plane that a model answers: frames with and without them.

Calipers show a reader which plane a frame is, and a model can learn to read them instead of the
anatomy. Two crosses and a dotted line are painted at a random place of each frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.evaluation.statistics.bootstrap import (
    Draws,
    Mean,
    Sample,
    clustered_intervals,
    macro,
    micro,
)
from sono.evaluation.statistics.metrics import cosines, predict, top_k_hits
from sono.evaluation.summaries import Scored
from sono.evaluation.zero_shot import Features, Frames, masked_features, read_squares
from sono.training.model.mask_clip import MaskClip

BRIGHT = 235
LENGTHS = (0.2, 0.45)  # of the line, as shares of the side
DOTS = 12
TOLERATED = 0.01  # of macro Top-1


def paint_calipers(square: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """A copy of a frame [S, S] with two crosses and a dotted line between them, inside the sector.

    The place depends on `seed` alone. The middle of the line is a pixel that is not black, if there
    is one.
    """
    rng, side = np.random.default_rng(seed), len(square)
    rows, columns = np.nonzero(square)
    chosen = rng.random()
    number = int(chosen * len(rows))
    middle = (columns[number], rows[number]) if len(rows) else (side // 2, side // 2)
    angle, length = rng.uniform(0, np.pi), rng.uniform(*LENGTHS) * side
    step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    painted = square.copy()
    points = np.rint(np.linspace(middle - step, middle + step, DOTS)).astype(int)
    for x, y in points[1:-1]:
        if 0 <= x < side and 0 <= y < side:
            painted[y, x] = BRIGHT
    for x, y in points[[0, -1]]:
        cv2.drawMarker(painted, (int(x), int(y)), BRIGHT, cv2.MARKER_CROSS, max(5, side // 24), 1)
    return painted


def caliper_features(
    model: MaskClip, files: Frames, image_ids: Sequence[str], batch_size: int
) -> Features:
    """Unit features [frames, d] of the frames with painted calipers, under the all-one mask."""
    found = []
    for start in range(0, len(image_ids), batch_size):
        rows = range(start, min(start + batch_size, len(image_ids)))
        squares = read_squares(files, rows, model.image_size)
        painted = np.stack(
            [
                paint_calipers(square, crc32(image_ids[row].encode()))
                for row, square in zip(rows, squares, strict=True)
            ]
        )
        found.append(masked_features(model, painted, np.ones(painted.shape, np.bool_)))
    return np.concatenate(found)


def caliper_results(
    features: Features, texts: Features, scored: Scored, how: Draws
) -> dict[str, Any]:
    """Macro Top-1 with painted calipers, its paired change, and the share of changed answers.

    `features` [frames, d] are those of `caliper_features`, `texts` [planes, d] those of all planes;
    the candidates are `scored.compared`.
    """
    among, truth = scored.compared, np.searchsorted(scored.compared, scored.truth)
    plain = scored.scores["all_one"][:, among]
    with_calipers = cosines(features, texts[among])
    hits, before = (top_k_hits(scores, truth, 1) for scores in (with_calipers, plain))
    columns = (
        hits,
        hits.astype(np.float64) - before,
        predict(with_calipers) != predict(plain),
    )
    classes, clusters = (
        np.unique(index, return_inverse=True)[1] for index in (truth, scored.clusters)
    )
    found = clustered_intervals(
        Sample(np.column_stack(columns).astype(np.float64), classes, clusters),
        {
            "top1_macro": macro(0),
            "change": Mean(1, kind="difference"),
            "changed_answers": micro(2),
        },
        how,
    )
    counts = {"frames": len(truth), "clusters": len(np.unique(clusters))}
    return counts | {name: interval.as_dict() for name, interval in found.items()}


def caliper_sentence(found: Mapping[str, Any]) -> str:
    """Whether calipers matter: the change, and whether it is more than a point."""
    change = found["change"]["point"]
    verdict = "more than" if abs(change) > TOLERATED else "at most"
    return (
        f"Painted calipers change macro Top-1 by {100 * change:+.1f} points, "
        f"{verdict} the {100 * TOLERATED:.0f} point that is tolerated, and "
        f"{100 * found['changed_answers']['point']:.1f} % of the answers."
    )
