"""The table of findings and their places."""

from sono.annotation.findings import PLACES, mention_findings, with_own_places
from sono.curation.clinical.findings import FINDINGS
from sono.curation.core.planes import PlaneTable

TABLE = PlaneTable()


def test_every_finding_of_the_table_is_one_that_records_may_hold() -> None:
    assert set(PLACES) <= set(FINDINGS)


def test_every_finding_of_the_table_has_a_plane_and_none_has_all() -> None:
    assert with_own_places(PLACES, TABLE) == PLACES  # each place is a structure, plane or region
    for finding in PLACES:
        shown = [plane.id for plane in TABLE.planes if mention_findings([finding], plane).plane]
        assert 1 <= len(shown) <= 8, finding


def test_planes_of_a_few_findings() -> None:
    shown = {
        finding: {plane.id for plane in TABLE.planes if mention_findings([finding], plane).plane}
        for finding in (
            "choroid plexus cyst",
            "absent nasal bone",
            "clubfoot",
            "hydronephrosis",
            "ventriculomegaly",
        )
    }
    assert shown == {
        "choroid plexus cyst": {"transventricular", "early_pregnancy_head"},
        "absent nasal bone": {"sideface", "nuchal_translucency"},
        "clubfoot": {"leg"},
        "hydronephrosis": {"renal_sagittal", "both_kidneys"},
        "ventriculomegaly": {"transventricular"},
    }


def test_what_has_no_place_is_told_of_the_study() -> None:
    assert mention_findings(["cyst", "Q62.0"], TABLE.by_id["femur"]) == ((), ("cyst", "Q62.0"))
    assert mention_findings(["short femur"], None) == ((), ("short femur",))
