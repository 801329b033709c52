"""The values that caption templates get: names, types, examples and meanings."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

Values = Mapping[str, str | int | float | bool | None]


class TemplateValue(NamedTuple):
    """What a value means, and an example of it; the example's type is the value's type."""

    example: str | int | float
    meaning: str


# What a template may use; null if a record does not have it. The examples are of one frame and one
# of its masks.
TEMPLATE_VALUES: Mapping[str, TemplateValue] = MappingProxyType(
    {
        "plane": TemplateValue("transventricular", "name of the plane"),
        "region": TemplateValue("head", "body region"),
        "weeks": TemplateValue(22, "completed weeks of gestation"),
        "days": TemplateValue(3, "days beyond the completed weeks"),
        "ga": TemplateValue("22 weeks and 3 days", "gestational age in words"),
        "structures": TemplateValue("fetal head and lateral ventricle", "structures in the frame"),
        "structure": TemplateValue("lateral ventricle", "the masked structure (region captions)"),
        "laterality": TemplateValue("left", "left, right or both"),
        "presentation": TemplateValue("cephalic", "fetal presentation"),
        "findings": TemplateValue("choroid plexus cyst", "coded findings that the plane can show"),
        "study_findings": TemplateValue(
            "growth restriction",
            "coded findings of the study that have no single place, or all if the plane is unknown",
        ),
        "bpd_mm": TemplateValue(54.2, "biparietal diameter"),
        "hc_mm": TemplateValue(201.5, "head circumference"),
        "ac_mm": TemplateValue(175.0, "abdominal circumference"),
        "fl_mm": TemplateValue(38.6, "femur length"),
        "crl_mm": TemplateValue(61.0, "crown-rump length"),
        "nt_mm": TemplateValue(1.4, "nuchal translucency"),
        "tier": TemplateValue("full", "full, partial or label: how much the record contains"),
    }
)
BIOMETRY = tuple(name for name in TEMPLATE_VALUES if name.endswith("_mm"))  # as in the images table
