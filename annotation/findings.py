"""Which planes can show a finding of a record, so that captions name it only there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sono.curation.clinical.findings import FINDINGS
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.planes import Plane, PlaneTable

Places = Mapping[str, Sequence[str]]

# The structures, plane ids or regions of each finding; what is not here has no single place.
PLACES: Places = {name: one.places for name, one in FINDINGS.items() if one.places}


class MentionedFindings(NamedTuple):
    """Findings that the plane of a frame can show, and those stated for the study only."""

    plane: tuple[str, ...]
    study: tuple[str, ...]


def mention_findings(
    findings: Sequence[str], plane: Plane | None, places: Places = PLACES
) -> MentionedFindings:
    """Which `findings` a caption names; those of other planes are left out.

    A finding without a place, and any finding on a frame of unknown plane, is stated for the study.
    """
    here = {plane.id, plane.region, *plane.structures} if plane else set()
    shown, study = [], []
    for finding in findings:
        where = places.get(spoken(finding).casefold())
        if where is None or plane is None:
            study.append(finding)
        elif not here.isdisjoint(where):
            shown.append(finding)
    return MentionedFindings(tuple(shown), tuple(study))


def spoken(finding: str) -> str:
    """`short_femur` in words."""
    return finding.replace("_", " ")


def with_own_places(own: Places, planes: PlaneTable) -> Places:
    """PLACES together with the study's `own` places.

    Raises SonoError for a place that is not a structure, plane or region of the table.
    """
    known = {
        word for plane in planes.planes for word in (plane.id, plane.region, *plane.structures)
    }
    for finding, places in own.items():
        for place in places:
            if place not in known:
                raise SonoError(
                    f"[captions] finding_places: '{finding}' has the unknown place '{place}'"
                    f"{did_you_mean(place, known)}; give structures, plane ids or regions"
                )
    return {**PLACES, **{spoken(finding).casefold(): places for finding, places in own.items()}}
