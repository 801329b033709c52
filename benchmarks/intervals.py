"""How often 95 % intervals cover the truth, and how fast they are.

Each study has 60 to 300 patients with 4 to 16 frames each, of 24 planes whose frequencies are as 1,
1/2, ..., 1/24. The answers of one patient are right with one probability, drawn from a beta
distribution, so that two of them correlate by 0.3. "gain" is the paired difference of two models on
the same frames, whose answers differ in few frames.

Example: python benchmarks/intervals.py --repeats 500
"""

import argparse
import time

import numpy as np

from sono.evaluation.statistics.bootstrap import (
    Draws,
    Interval,
    clustered_interval,
    macro,
    paired_difference,
)

PLANES, CORRELATION = 24, 0.3
FREQUENCY = 1 / np.arange(1, PLANES + 1)


def frames(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
    """The patient and the plane of each frame of a study; all planes that occur have a number."""
    owners = np.repeat(np.arange(patients), rng.integers(4, 17, patients))
    planes = rng.choice(PLANES, len(owners), p=FREQUENCY / FREQUENCY.sum())
    return owners, np.unique(planes, return_inverse=True)[1]


def correlated(rng: np.random.Generator, owners: np.ndarray, share: float) -> np.ndarray:
    """Whether each frame has a property that `share` of all frames have."""
    rest = (1 - CORRELATION) / CORRELATION
    return (
        rng.random(len(owners))
        < rng.beta(share * rest, (1 - share) * rest, owners.max() + 1)[owners]
    )


def accuracy_of_a_study(rng: np.random.Generator, patients: int, truth: float) -> Interval:
    """The interval of macro accuracy."""
    owners, planes = frames(rng, patients)
    return clustered_interval(correlated(rng, owners, truth), planes, owners, macro())


def gain_of_a_study(rng: np.random.Generator, patients: int, truth: float) -> Interval:
    """The interval of a gain of `truth`: a tenth more is won, and a tenth is lost."""
    owners, planes = frames(rng, patients)
    won, lost = (correlated(rng, owners, share) for share in (truth + 0.1, 0.1))
    none = np.zeros(len(owners), np.bool_)
    return paired_difference(won & ~lost, lost & ~won | none, planes, owners, Draws(1000))


def covered(repeats: int) -> None:
    """Print how many intervals of each kind of study contain the truth, and their mean width."""
    print("patients  metric    truth  covered  width")
    for patients in (60, 120, 300):
        for name, measure, truths in (
            ("accuracy", accuracy_of_a_study, (0.5, 0.9, 0.99)),
            ("gain", gain_of_a_study, (0.0, 0.1)),
        ):
            for truth in truths:
                rng = np.random.default_rng(patients)
                found = [measure(rng, patients, truth) for _ in range(repeats)]
                share = np.mean([each.low <= truth <= each.high for each in found])
                width = np.mean([each.high - each.low for each in found])
                print(
                    f"{patients:8}  {name:8}  {truth:5}  {100 * share:5.1f} %  {100 * width:5.1f}"
                )


def speed() -> None:
    """Print the CPU seconds of 10,000 resamples of 100,000 predictions."""
    rng = np.random.default_rng(0)
    for patients in (1_000, 5_000, 10_000):
        owners = np.sort(rng.integers(patients, size=100_000))
        owners = np.unique(owners, return_inverse=True)[1]
        planes = rng.integers(PLANES, size=100_000)
        first, second = (rng.random(100_000) < 0.9 for _ in range(2))
        started = time.process_time()
        paired_difference(first, second, planes, owners, Draws(10_000))
        print(f"{len(np.unique(owners)):6} patients: {time.process_time() - started:.1f} CPU s")


def main() -> None:
    """Measure coverage and speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=500)
    covered(parser.parse_args().repeats)
    speed()


if __name__ == "__main__":
    main()
