"""The gestational age by prompts: which age in weeks fits a frame best, without any regression.

The answer is the mean of the ages under the softmax of the cosines; validation frames choose its
temperature alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sono.annotation.caption_facts import DAYS_A_WEEK, Facts, caption_values
from sono.evaluation.probes.parts import Part
from sono.evaluation.probes.study import Probe
from sono.evaluation.zero_shot import class_features
from sono.templates.loader import load_templates

Reals = NDArray[np.floating]

PERMUTATIONS = 40
TEMPERATURES = tuple(float(t) for t in np.logspace(-3, 0, 13))


@dataclass(frozen=True)
class PromptAges:
    """Cosines [frames, weeks] with the prompts of the ages `days` [weeks]."""

    scores: Reals
    days: Reals

    def answers(self, truth: Reals, part: Part) -> tuple[Reals, Reals]:
        """Expected ages [tested] in days, and the deviation of the softmax around them.

        Of the temperatures, the lowest with the smallest mean absolute error on validation frames.
        """
        errors = [
            np.abs(self._expected(t, part.val)[0] - truth[part.val]).mean() for t in TEMPERATURES
        ]
        return self._expected(TEMPERATURES[int(np.argmin(errors))], part.test)

    def error(self, truth: Reals, parts: Sequence[Part]) -> float:
        """The mean absolute error over the tested frames of all `parts`."""
        errors = [np.abs(self.answers(truth, part)[0] - truth[part.test]) for part in parts]
        return float(np.concatenate(errors).mean())

    def permuted_errors(self, truth: Reals, parts: Sequence[Part], seed: int) -> list[float]:
        """The same for prompts with each other's ages, several times."""
        rng = np.random.default_rng(seed)
        return [
            PromptAges(self.scores, rng.permutation(self.days)).error(truth, parts)
            for _ in range(PERMUTATIONS)
        ]

    def _expected(self, temperature: float, rows: NDArray[np.intp]) -> tuple[Reals, Reals]:
        shares = softmax(self.scores[rows] / temperature, axis=1)
        mean = shares @ self.days
        return mean, np.sqrt(np.maximum(shares @ self.days**2 - mean**2, 0))


def prompt_ages(probe: Probe, embedded: Reals, with_plane: bool) -> PromptAges | None:
    """The ages of the frames' unit features `embedded` [frames, d] by captions of an age alone.

    `with_plane` the caption also names the plane of the frame. The weeks are those from the
    youngest to the oldest frame that is not tested. None without a text tower, or if the captions
    of its training state no age.
    """
    if not probe.probed.template:
        return None
    known = np.concatenate([part.pool for part in probe.parts])
    ages = probe.frames["ga_days"].to_numpy(np.float64)[known]
    weeks = np.arange(ages.min() // DAYS_A_WEEK, ages.max() // DAYS_A_WEEK + 1).astype(int)
    planes = probe.frames["plane"].to_numpy(object)
    if not with_plane:
        planes = np.full(len(planes), None)
    scores = np.empty((len(planes), len(weeks)))
    for plane in set(planes.tolist()):
        texts = list(_captions(probe, plane if isinstance(plane, str) else None, weeks))
        if len({text for each in texts for text in each}) < len(weeks):
            return None
        rows = np.array([each is plane or each == plane for each in planes])
        scores[rows] = embedded[rows] @ class_features(probe.probed.model, texts).T
    return PromptAges(scores, DAYS_A_WEEK * weeks.astype(np.float64))


def _captions(probe: Probe, plane: str | None, weeks: NDArray[np.integer]) -> Iterator[list[str]]:
    """The phrasings of a caption that states the plane and each age."""
    templates, table = load_templates(probe.probed.template), probe.workspace.planes()
    for week in weeks:
        values = caption_values(Facts(plane, ga_days=DAYS_A_WEEK * int(week)), table)
        yield [each.render_global(values) for each in (templates, *templates.others)]
