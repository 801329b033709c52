"""Intervals of shares of right answers, where several frames of one patient are not independent.

A percentile bootstrap covers too little where nearly all answers are right, because few patients
have the wrong ones. These intervals take the number of independent answers with the same variance
(the effective sample size) and give it to the score interval of Wilson (1927), or, where all
answers are equal, to the exact interval of Clopper and Pearson (1934).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from sono.curation.core.shares import wilson_limits

Reals = NDArray[np.floating]

# Few wrong answers do not show how similar those of one patient are. Therefore their correlation
# counts as 0.5, with the weight of six patients, until patients with wrong answers show another.
PRIOR_CORRELATION, PRIOR_PATIENTS = 0.5, 6
PRIOR_FREEDOM = 20  # degrees of freedom besides the patients with wrong answers
PRIOR_ANSWERS = 2.0  # of all classes, with the common accuracy, added to those of each class


@dataclass(frozen=True)
class Answers:
    """Right answers and answers [clusters, classes], and the weight of one answer [classes].

    The weighted sum of the right answers is the share.
    """

    right: Reals
    counts: Reals
    weights: Reals

    @property
    def clusters(self) -> float:
        """The number of clusters of equal weight with the same sum of squared weights."""
        return float(1 / ((self.counts * self.weights).sum(axis=1) ** 2).sum())

    @property
    def share(self) -> float:
        """The weighted share of right answers."""
        return min(1.0, float((self.right.sum(axis=0) * self.weights).sum()))

    @property
    def alike(self) -> bool:
        """Whether all answers are right, or all are wrong."""
        return float(self.right.sum()) in (0.0, float(self.counts.sum()))


def share_limits(answers: Answers, level: float) -> tuple[float, float]:
    """The limits of the share of right answers at the confidence `level`."""
    share = answers.share
    if answers.alike:
        miss = unseen_share(answers, level)
        return (max(0.0, share - miss), min(1.0, share + miss))
    z = float(student.ppf((1 + level) / 2, _informed(answers) + PRIOR_FREEDOM))
    return wilson_limits(share, share * (1 - share) / _variance(answers), z)


def unseen_share(answers: Answers, level: float) -> float:
    """The largest share of another answer that fits answers that are all alike."""
    effective = 1 / _spread(answers, np.ones(answers.counts.shape[1]), PRIOR_CORRELATION)
    return float(1 - ((1 - level) / 2) ** (1 / max(effective, 1.0)))


def _variance(answers: Answers) -> float:
    """The variance of the share: that between patients, or that of a model if it is larger.

    The variance between patients is too small where classes have few answers or few patients have
    wrong ones. The model has one accuracy in each class and one correlation.
    """
    spread = np.sqrt(_class_variance(answers))
    return max(_between(answers), _spread(answers, spread, _correlation(answers)))


def _between(answers: Answers) -> float:
    """The linearized variance between clusters."""
    means = answers.right.sum(axis=0) / np.maximum(answers.counts.sum(axis=0), 1)
    residuals = ((answers.right - answers.counts * means) * answers.weights).sum(axis=1)
    clusters = len(residuals)
    return float(clusters / (clusters - 1) * (residuals**2).sum())


def _spread(answers: Answers, spread: Reals, correlation: float) -> float:
    """The variance for standard deviations of one answer [classes] and their correlation."""
    scaled = answers.weights * spread
    alone = float((answers.counts * scaled**2).sum())
    together = float(((answers.counts * scaled).sum(axis=1) ** 2).sum())
    return alone + correlation * (together - alone)


def _informed(answers: Answers) -> int:
    """The patients that show how answers vary: those with wrong ones, or right ones if fewer."""
    wrong = (answers.counts - answers.right).sum(axis=1) > 0
    return min(int(wrong.sum()), int((answers.right.sum(axis=1) > 0).sum()))


def _accuracy(answers: Answers) -> Reals:
    """The accuracy [classes], drawn towards that of all answers where there are few."""
    common = answers.right.sum() / answers.counts.sum()
    right, counts = answers.right.sum(axis=0), answers.counts.sum(axis=0)
    return np.asarray((right + PRIOR_ANSWERS * common) / (counts + PRIOR_ANSWERS))


def _class_variance(answers: Answers) -> Reals:
    """The variance of one answer [classes], without the bias of few answers."""
    accuracy, size = _accuracy(answers), answers.counts.sum(axis=0) + PRIOR_ANSWERS
    return np.asarray(accuracy * (1 - accuracy) * size / (size - 1))


def _correlation(answers: Answers) -> float:
    """The correlation of two answers of one cluster, of the standardized residuals."""
    accuracy = _accuracy(answers)
    spread = np.sqrt(accuracy * (1 - accuracy))
    wrong = answers.counts - answers.right
    total = ((answers.right - answers.counts * accuracy) / spread).sum(axis=1)
    squares = ((answers.right * (1 - accuracy) ** 2 + wrong * accuracy**2) / spread**2).sum(axis=1)
    size = answers.counts.sum(axis=1)
    pairs = float((size * (size - 1)).sum())
    found = float((total**2 - squares).sum()) / max(pairs, 1.0) / float(squares.sum() / size.sum())
    informed = _informed(answers)
    known = informed * min(max(found, 0.0), 1.0)
    return (known + PRIOR_PATIENTS * PRIOR_CORRELATION) / (informed + PRIOR_PATIENTS)
