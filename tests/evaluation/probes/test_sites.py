"""Sites in features: planted, absent, and the index that compares them with planes."""

import numpy as np
import pandas as pd
import pytest

from sono.evaluation.probes.classes import Labeled
from sono.evaluation.probes.parts import Part
from sono.evaluation.probes.sites import (
    Sites,
    balanced_rows,
    neighbor_counts,
    robustness,
    site_probe,
)
from sono.evaluation.statistics.bootstrap import Draws

FRAMES, PLANES = 360, 3
DRAWS = Draws(draws=200)


def sites(plane: float, site: float, seed: int = 0) -> tuple[Sites, np.ndarray]:
    """90 patients of two sites with features of so much plane and site; site 1 has more hearts."""
    rng = np.random.default_rng(seed)
    clusters = np.arange(FRAMES) // 4
    labels = clusters % 2
    shares = np.array([[0.4, 0.3, 0.3], [0.8, 0.1, 0.1]])
    planes = np.array([rng.choice(PLANES, p=shares[label]) for label in labels])
    means = rng.normal(size=(PLANES, 30)), rng.normal(size=(2, 30))
    features = plane * means[0][planes] + site * means[1][labels] + rng.normal(size=(FRAMES, 30))
    place = clusters % 3  # of patients
    parts = (Part(*(np.flatnonzero(place == number) for number in range(3))),)
    return Sites(Labeled(pd.DataFrame(), ("a", "b"), labels, clusters, parts), planes), features


def test_a_draw_has_as_many_frames_of_each_site_in_every_plane() -> None:
    found, _ = sites(1, 1)
    rows = balanced_rows(
        np.arange(FRAMES), found.data.labels, found.planes, np.random.default_rng(0)
    )
    counts = np.zeros((2, PLANES), int)
    np.add.at(counts, (found.data.labels[rows], found.planes[rows]), 1)
    assert (counts[0] == counts[1]).all() and (counts > 0).all()
    assert len(np.unique(rows)) == len(rows)


def test_a_planted_site_is_read_and_an_absent_one_is_not() -> None:
    found, planted = sites(plane=2, site=1)
    read = site_probe(found, planted, seed=0)
    assert read["accuracy"] > 0.9 and read["p_value"] < 0.05
    assert read["permuted"] == pytest.approx(0.5, abs=0.12)
    # the planes differ by site, so only balanced draws show that the site is absent
    absent = site_probe(*sites(plane=2, site=0), seed=0)
    assert absent["accuracy"] < 0.65 and absent["p_value"] > 0.05


def test_the_index_is_high_for_planes_low_for_sites_and_chance_for_noise() -> None:
    of = {
        name: robustness(*sites(plane, site), seed=0, how=DRAWS)
        for name, (plane, site) in {"plane": (3, 0), "site": (0, 3), "noise": (0, 0)}.items()
    }
    assert of["plane"]["index"]["point"] > 0.95
    assert of["site"]["index"]["point"] < 0.05
    assert of["noise"]["index"]["point"] == pytest.approx(of["noise"]["by_chance"], abs=0.05)


def test_neighbors_of_the_same_patient_do_not_count() -> None:
    features = np.array([[1.0, 0], [1.0, 0.01], [0.9, 0.1], [0, 1.0]])
    counts, _ = neighbor_counts(
        features,
        sites=np.array([0, 0, 1, 0]),
        planes=np.array([0, 1, 0, 1]),
        clusters=np.array([0, 0, 1, 2]),
        k=1,
    )
    # frame 1 is nearest to frame 0, but is of its patient: the next is of its plane elsewhere
    assert counts[0].tolist() == [1, 0]


def test_chance_is_the_other_sites_against_the_other_planes() -> None:
    frames = np.arange(600)
    _, chance = neighbor_counts(
        np.random.default_rng(0).normal(size=(600, 5)), frames % 2, frames // 2 % 3, frames
    )
    assert chance[0] / chance.sum() == pytest.approx(1 / 3, abs=0.01)


def test_sites_without_a_common_plane_give_no_number() -> None:
    found, features = sites(1, 1)
    apart = Sites(found.data, found.data.labels)
    assert site_probe(apart, features, seed=0) == {}
    assert robustness(apart, features, seed=0, how=DRAWS) == {}
