"""Which planes can show a finding of a record, so that captions name it only there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.planes import Plane, PlaneTable

Places = Mapping[str, Sequence[str]]

# Finding: the structures, planes (ids) or regions where the ISUOG practice guidelines look for it:
# CNS part 1 (2020),
# heart (2023), mid-trimester (2022) and 11-14 weeks (2023). What is not here has no one place:
# shape and echogenicity
# without an organ, the volume of fluid, growth, and codes.
# fmt: off
PLACES: Places = {
    "ventriculomegaly": ("lateral ventricle",),
    "hydrocephalus": ("lateral ventricle", "third ventricle"),
    "choroid plexus cyst": ("choroid plexus",),
    "enlarged cisterna magna": ("cisterna magna",),
    "cleft lip": ("upper lip",),
    "absent nasal bone": ("nasal bone",),
    "increased nuchal translucency": ("nuchal translucency",),
    "cystic hygroma": ("nuchal translucency", "crown_rump_length"),
    "ventricular septal defect": ("interventricular septum",),
    "echogenic intracardiac focus": ("left ventricle", "right ventricle"),
    "pericardial effusion": ("left ventricle", "right ventricle"),
    "pleural effusion": ("four_chamber", "four_chamber_h", "three_vessel_trachea"),
    "ascites": ("abdomen",),
    "hydrops": ("abdomen", "four_chamber", "four_chamber_h", "crown_rump_length"),
    "omphalocele": ("abdominal_circumference", "crown_rump_length"),
    "gastroschisis": ("abdominal_circumference", "crown_rump_length"),
    "diaphragmatic hernia": ("four_chamber", "four_chamber_h", "stomach"),
    "double bubble": ("stomach",),
    "echogenic bowel": ("fetal abdomen", "urinary bladder"),
    "hydronephrosis": ("renal pelvis", "kidney", "left kidney", "right kidney"),
    "pyelectasis": ("renal pelvis", "kidney", "left kidney", "right kidney"),
    "multicystic kidney": ("kidney", "left kidney", "right kidney"),
    "renal agenesis": ("kidney", "left kidney", "right kidney"),
    "megacystis": ("urinary bladder", "crown_rump_length"),
    "single umbilical artery": ("umbilical arteries",),
    "spina bifida": ("spine", "cerebellum", "intracranial translucency"),
    "clubfoot": ("leg",),
    "short femur": ("femur",),
    "skeletal dysplasia": ("upper limb", "lower limb"),
}
# fmt: on


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
