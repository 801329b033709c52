"""The 24 planes: which drawing, its size by age, and its place in the sector."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.planes import PLANES
from sono.curation.phantom import abdomen_limbs, head, heart
from sono.curation.phantom.physics import Probe, sector_mask
from sono.curation.phantom.scene import Pose, Scene, new_scene

DRAWINGS: dict[str, Callable[[Scene], None]] = {
    "four_chamber": heart.four_chamber,
    "sideface": head.profile,
    "renal_sagittal": abdomen_limbs.renal_sagittal,
    "nuchal_translucency": head.nuchal_translucency,
    "eye": head.eye,
    "forearm": abdomen_limbs.forearm,
    "crown_rump_length": head.crown_rump_length,
    "abdominal_circumference": abdomen_limbs.abdominal_circumference,
    "femur": abdomen_limbs.femur,
    "bladder": abdomen_limbs.bladder,
    "transventricular": head.transventricular,
    "four_chamber_h": heart.four_chamber_h,
    "humerus": abdomen_limbs.humerus,
    "both_kidneys": abdomen_limbs.both_kidneys,
    "gallbladder": abdomen_limbs.gallbladder,
    "transthalamic": head.transthalamic,
    "lvot": heart.lvot,
    "three_vessel_trachea": heart.three_vessel_trachea,
    "aortic_arch": heart.aortic_arch,
    "leg": abdomen_limbs.leg,
    "transcerebellar": head.transcerebellar,
    "early_pregnancy_head": head.early_pregnancy_head,
    "ductal_arch": heart.ductal_arch,
    "rvot": heart.rvot,
}

WIDE = ("femur", "humerus", "forearm", "leg", "nuchal_translucency", "sideface")
FIRST_TRIMESTER = ("nuchal_translucency", "crown_rump_length", "early_pregnancy_head")

# Rounded medians in mm at weeks of gestation, near common growth charts; good enough for a phantom.
WEEKS = (11.0, 14.0, 18.0, 22.0, 26.0, 30.0, 34.0, 38.0, 41.0)
BIPARIETAL_MM = (17.0, 27.0, 42.0, 54.0, 66.0, 76.0, 86.0, 92.0, 95.0)
ABDOMEN_MM = (50.0, 78.0, 127.0, 173.0, 215.0, 257.0, 299.0, 340.0, 365.0)  # circumference
FEMUR_MM = (5.0, 14.0, 27.0, 39.0, 49.0, 58.0, 66.0, 73.0, 77.0)
CROWN_RUMP_MM = (41.0, 82.0, 140.0, 190.0, 230.0, 270.0, 310.0, 340.0, 360.0)


@dataclass(frozen=True)
class Drawn:
    """A drawn plane, its pixel spacing (square pixels), and its true measurements in mm."""

    scene: Scene
    spacing_mm: float
    biometry_mm: dict[str, float]


def draw_plane(plane: str, probe: Probe, ga_days: int, rng: np.random.Generator) -> Drawn:
    """Draw `plane` of a fetus of `ga_days` into the frame of `probe`, in a random pose.

    The fetus is within 25 degrees of the textbook pose, slightly off center, and fills about two
    thirds of the depth, more if it is older.
    """
    narrow = 0.84 if plane in WIDE else 1.0
    unit_mm = half_size_mm(plane, ga_days) * rng.uniform(0.96, 1.04)
    share = (
        narrow * rng.uniform(0.88, 1.12) * (0.66 + 0.08 * np.clip((ga_days / 7 - 26) / 12, -1, 1))
    )
    x, y = probe.point(rng.uniform(-0.14, 0.14), rng.uniform(0.5, 0.58))
    pose = Pose(x, y, rng.uniform(-25, 25), share * probe.depth / 2, bool(rng.random() < 0.3))
    scene = new_scene(probe.height, probe.width, pose, rng)
    DRAWINGS[plane](scene)
    return Drawn(scene, unit_mm / pose.scale, _biometry(plane, unit_mm))


def half_size_mm(plane: str, ga_days: int) -> float:
    """Millimeters per object unit of a plane's drawing at an age."""
    biparietal, abdomen, femur, crown_rump = (
        float(np.interp(ga_days / 7, WEEKS, chart))
        for chart in (BIPARIETAL_MM, ABDOMEN_MM, FEMUR_MM, CROWN_RUMP_MM)
    )
    by_plane = {
        "nuchal_translucency": 0.45 * crown_rump,
        "crown_rump_length": crown_rump / 2,
        "early_pregnancy_head": biparietal / (2 * head.EARLY_HEAD[1]),
        "sideface": 0.6 * biparietal,
        "eye": 0.5 * biparietal,
        "renal_sagittal": 0.55 * ga_days / 7,
        "femur": femur / (2 * abdomen_limbs.FEMUR_HALF),
        "humerus": 0.93 * femur / 2,
        "forearm": 0.85 * femur / 2,
        "leg": 0.89 * femur / 2,
    }
    by_region = {"head": biparietal / (2 * head.HEAD[1]), "heart": 0.85 * abdomen / (2 * np.pi)}
    region = next(item.region for item in PLANES if item.id == plane)
    return by_plane.get(plane, by_region.get(region, abdomen / (2 * np.pi)))


def visible_masks(scene: Scene, plane: str, probe: Probe) -> dict[str, NDArray[np.bool_]]:
    """Masks [H, W] of the plane's structures, clipped to the sector.

    Masks mostly outside it are omitted.
    """
    sector, kept = sector_mask(probe), {}
    for name in next(item.structures for item in PLANES if item.id == plane):
        drawn = scene.masks[name].astype(bool)
        seen = drawn & sector
        if seen.sum() >= max(30, 0.5 * drawn.sum()):
            kept[name] = seen
    return kept


def ellipse_circumference(half_width: float, half_height: float) -> float:
    """Circumference of an ellipse (Ramanujan's second approximation)."""
    h = ((half_width - half_height) / (half_width + half_height)) ** 2
    return float(np.pi * (half_width + half_height) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))))


def _biometry(plane: str, unit_mm: float) -> dict[str, float]:
    measured = {
        "transthalamic": {"bpd": 2 * head.HEAD[1], "hc": ellipse_circumference(*head.HEAD)},
        "transventricular": {"bpd": 2 * head.HEAD[1], "hc": ellipse_circumference(*head.HEAD)},
        "early_pregnancy_head": {"bpd": 2 * head.EARLY_HEAD[1]},
        "abdominal_circumference": {"ac": ellipse_circumference(*abdomen_limbs.ABDOMEN)},
        "femur": {"fl": 2 * abdomen_limbs.FEMUR_HALF},
        "crown_rump_length": {"crl": 2.0},
        "nuchal_translucency": {"nt": head.NUCHAL_WIDTH},
    }
    return {name: round(units * unit_mm, 1) for name, units in measured.get(plane, {}).items()}
