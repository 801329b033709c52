"""Frames of equal pixels are one frame, unless their records differ in a fact."""

import pandas as pd
import pytest

from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.dataset.equal_frames import contradictory, unknown_facts
from sono.curation.records.record_fields import RECORD_FIELDS, REPLACED

DIFFERING: dict[str, tuple[object, object]] = {
    "patient_id": ("p1", "p2"),
    "center": ("North", "South"),
    "machine": ("Voluson E8", "Aplio"),
    "plane": ("femur", "humerus"),
    "region": ("lower limb", "upper limb"),
    "ga_days": (140, 141),
    "laterality": ("left", "right"),
    "presentation": ("cephalic", "breech"),
    "bmi_band": ("below 25", "30 and above"),
    "parity": ("nulliparous", "parous"),
    "findings": (["ventriculomegaly"], ["normal appearance"]),
    "structures": (["femur"], ["femur", "humerus"]),
    **{
        name: (20.0, 19.0) if name == "nt_mm" else (30.0, 31.0)
        for name in IMAGES.columns
        if name.endswith("_mm") and "spacing" not in name
    },
    "row_spacing_mm": (0.1, 0.2),
    "col_spacing_mm": (0.1, 0.2),
}
ALIKE: dict[str, tuple[object, object]] = {
    "center": ("North", "North Hospital"),
    "machine": ("GE Voluson E8", "Voluson E8"),
    "findings": (["clubfoot", "short femur"], ["short femur", "clubfoot"]),
    "row_spacing_mm": (0.1, 0.1001),
    "ga_source": ("recorded", "lmp"),
    "sharpness": (1.0, 2.0),
}


def _twins(name: str, one: object, other: object) -> pd.DataFrame:
    rows = [
        {"source_id": f"s{number}", "frame": 0, "status": "accepted", name: value}
        for number, value in enumerate((one, other))
    ]
    return from_rows(IMAGES, rows)


@pytest.mark.parametrize("name", DIFFERING)
def test_a_fact_that_two_twins_state_differently_is_a_contradiction(name: str) -> None:
    one, other = DIFFERING[name]
    assert contradictory(_twins(name, one, other))
    for silent in (None, []) if isinstance(one, list) else (None,):
        assert not contradictory(_twins(name, one, silent))
        assert unknown_facts(_twins(name, one, silent)).diff().iloc[1] == 1
    assert not contradictory(_twins(name, one, one))


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_the_same_in_other_words_or_no_fact_is_none(name: str) -> None:
    assert not contradictory(_twins(name, *ALIKE[name]))


def test_every_fact_that_a_record_may_give_is_compared() -> None:
    assert {*RECORD_FIELDS, *REPLACED} - {"ga_source", "spacing_reason"} <= set(DIFFERING)
