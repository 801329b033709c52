"""Frames of equal pixels: whether their facts contradict each other, and which has the most."""

from collections.abc import Callable
from itertools import combinations, starmap

import pandas as pd

from sono.curation.core.geometry import is_square
from sono.curation.records.identity import centers_differ, machines_differ

# Facts of an image or its patient that must be equal for equal pixels.
_EQUAL = (
    "patient_id", "plane", "region", "ga_days", "laterality", "presentation", "bmi_band", "parity",
    "bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm", "nt_mm",
)  # fmt: skip
_LISTS = ("findings", "structures")  # in any order


def _spacings_differ(one: float, other: float) -> bool:
    return not is_square(one / other)


# Facts that may be written in several ways, with a function that tests whether they differ.
_ALIKE: dict[str, Callable[..., bool]] = {
    "center": centers_differ,
    "machine": machines_differ,
    "row_spacing_mm": _spacings_differ,
    "col_spacing_mm": _spacings_differ,
}


def contradictory(twins: pd.DataFrame) -> bool:
    """Whether rows of the images table with equal pixels differ in a fact.

    A missing value contradicts nothing.
    """
    equal = int(twins[[*_EQUAL]].nunique().max()) <= 1
    if not equal or any(
        len({frozenset(terms) for terms in _filled(twins[name])}) > 1 for name in _LISTS
    ):
        return True
    return any(
        any(starmap(differ, combinations(twins[name].dropna().unique(), 2)))
        for name, differ in _ALIKE.items()
    )


def unknown_facts(images: pd.DataFrame) -> pd.Series:
    """The number of missing facts of each row, of those that equal pixels share."""
    lists = [
        images[name].map(lambda terms: terms is None or len(terms) == 0).astype(int)
        for name in _LISTS
    ]
    return images[[*_EQUAL, *_ALIKE]].isna().sum(axis=1) + sum(lists)


def _filled(lists: pd.Series) -> list[list[str]]:
    return [terms for terms in lists if terms is not None and len(terms)]
