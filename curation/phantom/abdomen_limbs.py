"""Drawings of the abdomen and limb planes.

One object unit is half of the abdomen's width or of the bone's length.
"""

import numpy as np

from sono.curation.phantom.heart import spine
from sono.curation.phantom.scene import (
    BONE,
    FLUID,
    LIVER,
    MUSCLE,
    TISSUE,
    Points,
    Scene,
    band,
    chamber,
    curve,
    fill,
    name_area,
    oval,
    pool,
    speckle_threads,
    stroke,
    vessel,
)

ABDOMEN = (1.0, 0.94)
FEMUR_HALF = 0.98  # half of the ossified shaft


def abdominal_circumference(scene: Scene) -> None:
    """Stomach on one side, the umbilical vein's J in the liver, the spine at the side."""
    _abdomen(scene, "fetal abdomen")
    liver = curve(
        (-0.8, -0.1),
        (-0.5, -0.66),
        (0.1, -0.78),
        (0.3, -0.4),
        (0.1, 0.1),
        (-0.1, 0.5),
        (-0.6, 0.55),
        closed=True,
    )
    fill(scene, liver, LIVER, "liver")
    spine(scene, 80, 0.7, "spine")
    chamber(scene, oval((0.14, 0.42), (0.075, 0.075)))
    chamber(
        scene,
        curve(
            (0.36, -0.3),
            (0.62, -0.3),
            (0.7, 0.02),
            (0.52, 0.26),
            (0.36, 0.12),
            (0.44, -0.06),
            closed=True,
        ),
        "stomach",
    )
    vein = curve((0.0, -0.6), (-0.02, -0.3), (-0.1, -0.06), (-0.32, 0.06), (-0.45, -0.06))
    vessel(scene, vein, 0.11, "umbilical vein")


def gallbladder(scene: Scene) -> None:
    """A dark pear to the right of the umbilical vein, both in the liver."""
    _abdomen(scene, "")
    liver = oval((-0.05, -0.12), (0.82, 0.72))
    fill(scene, liver, LIVER + 1, "liver")
    spine(scene, 95, 0.74)
    vessel(scene, curve((0.3, -0.86), (0.26, -0.5), (0.14, -0.12)), 0.1, "umbilical vein")
    pear = band(
        curve((-0.62, -0.5), (-0.42, -0.28), (-0.18, -0.06), (0.02, 0.1)),
        (0.06, 0.3, 0.36, 0.24, 0.03),
    )
    chamber(scene, pear, "gallbladder", wall=-10)


def both_kidneys(scene: Scene) -> None:
    """The spine nearest the probe and a kidney on each side of it."""
    _abdomen(scene, "")
    for side, name in ((-1, "left kidney"), (1, "right kidney")):
        outline = oval((side * 0.46, -0.34), (0.33, 0.29), side * 20)
        stroke(scene, outline, 0.05, -12)
        fill(scene, outline, -41, name)
        stroke(scene, oval((side * 0.44, -0.33), (0.15, 0.1), side * 20), 0.05, -17)
        fill(scene, oval((side * 0.42, -0.33), (0.12, 0.075), side * 20), FLUID)
    spine(scene, -90, 0.6, "spine")
    speckle_threads(scene, oval((0, 0.4), (0.7, 0.4)), 20, -17)


def renal_sagittal(scene: Scene) -> None:
    """One kidney along its length: a bean with dark pyramids around a bright sinus."""
    fill(scene, oval((0, 0), (1.7, 1.1)), TISSUE - 2)
    stroke(scene, curve((-1.6, -0.72), (0, -0.8), (1.6, -0.72)), 0.05, -14)
    speckle_threads(scene, oval((0, 0.85), (1.2, 0.28)), 20, -17)
    bean = curve(
        (-1.0, 0.08),
        (-0.72, -0.38),
        (0, -0.52),
        (0.72, -0.38),
        (1.0, 0.08),
        (0.7, 0.36),
        (0.25, 0.4),
        (0, 0.3),
        (-0.25, 0.4),
        (-0.7, 0.36),
        closed=True,
    )
    stroke(scene, bean, 0.06, -8)
    fill(scene, bean, -36, "kidney")
    for degrees in np.linspace(165, 375, 7):
        ray = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        fill(scene, oval((0.7 * ray[0], 0.02 + 0.3 * ray[1]), (0.13, 0.09), degrees), -56)
    fill(scene, oval((0, 0.05), (0.52, 0.15)), -17)
    fill(scene, oval((0, 0.08), (0.3, 0.075)), FLUID, "renal pelvis")
    for x in (-1.3, -0.75, -0.2):
        fill(scene, oval((x, -0.92), (0.09, 0.05)), BONE, loss=0.48)


def bladder(scene: Scene) -> None:
    """The bladder between the two umbilical arteries that meet in front of it."""
    _abdomen(scene, "")
    speckle_threads(scene, oval((0, 0.3), (0.8, 0.55)), 18, -19)
    for side in (-1, 1):
        fill(scene, oval((side * 0.5, 0.48), (0.17, 0.06), side * -35), BONE, loss=0.8)
        artery = curve(
            (side * 0.4, 0.4),
            (side * 0.47, 0.05),
            (side * 0.33, -0.36),
            (side * 0.06, -0.72),
            (side * 0.05, -0.98),
        )
        vessel(scene, artery, 0.085, "umbilical arteries")
    chamber(
        scene,
        curve(
            (0, -0.46),
            (0.3, -0.1),
            (0.26, 0.26),
            (0, 0.38),
            (-0.26, 0.26),
            (-0.3, -0.1),
            closed=True,
        ),
        "urinary bladder",
    )


def femur(scene: Scene) -> None:
    """One bowed shaft with flared ends and a strong shadow."""
    _limb(scene, curve((-1.7, 0.1), (0, -0.06), (1.55, 0.15)), (0.9, 1.15, 1.05, 0.95, 0.3))
    shaft = curve((-FEMUR_HALF, 0.06), (-0.5, -0.05), (0.1, -0.09), (0.6, -0.03), (FEMUR_HALF, 0.1))
    _bone(scene, shaft, (0.22, 0.12, 0.1, 0.1, 0.13, 0.26), "femur", loss=1.6)
    fill(scene, oval((1.2, 0.16), (0.16, 0.17)), -44)


def humerus(scene: Scene) -> None:
    """One straight shaft with the round cartilage of its head, next to the ribs."""
    for x in np.linspace(-1.15, 0.75, 7):
        fill(scene, oval((x, 0.72 + 0.1 * x), (0.1, 0.05), 10), -1, loss=0.96)
    stroke(scene, curve((-1.4, 0.5), (-0.3, 0.58), (0.9, 0.72)), 0.04, -17)
    _limb(scene, curve((-1.6, 0.05), (0, -0.02), (1.5, 0.0)), (0.95, 0.8, 0.65, 0.6, 0.25))
    ball = oval((-1.06, -0.03), (0.26, 0.25))
    stroke(scene, ball, 0.045, -8)
    fill(scene, ball, -50)
    _bone(
        scene,
        curve((-0.95, 0.0), (0, 0.0), (0.95, 0.0)),
        (0.17, 0.1, 0.09, 0.1, 0.17),
        "humerus",
        loss=0.72,
    )


def forearm(scene: Scene) -> None:
    """Two shafts of similar length next to each other, with the hand beyond them."""
    _limb(scene, curve((-1.4, 0.1), (0, 0.0), (1.2, 0.0)), (0.35, 0.75, 0.8, 0.7, 0.45))
    for spread in (-0.24, -0.08, 0.08, 0.22):
        finger = curve((1.1, spread * 0.7), (1.4, spread * 1.1), (1.62, spread * 1.5))
        stroke(scene, finger, 0.14, MUSCLE)
        stroke(scene, finger[2:11], 0.045, -4)
        stroke(scene, finger[14:21], 0.04, -6)
    _bone(
        scene,
        curve((-0.98, 0.18), (0, 0.2), (0.82, 0.14)),
        (0.16, 0.09, 0.08, 0.1),
        "ulna",
        loss=0.48,
    )
    _bone(
        scene,
        curve((-0.74, -0.13), (0, -0.19), (0.84, -0.14)),
        (0.09, 0.09, 0.09, 0.14),
        "radius",
        loss=0.2,
    )


def leg(scene: Scene) -> None:
    """A thick tibia, a thin fibula, and the foot turned up at the end."""
    _limb(scene, curve((-1.5, 0.05), (0, 0.05), (1.12, 0.05)), (0.5, 0.95, 1.0, 0.75, 0.5))
    sole = curve(
        (0.98, 0.22),
        (1.18, 0.24),
        (1.28, -0.1),
        (1.3, -0.72),
        (1.16, -0.78),
        (1.0, -0.2),
        closed=True,
    )
    stroke(scene, sole, 0.03, -13)
    fill(scene, sole, MUSCLE + 2)
    for y in (-0.62, -0.46, -0.3):
        stroke(scene, curve((1.2, y), (1.19, y + 0.09)), 0.06, -4)
    fill(scene, oval((1.12, 0.12), (0.1, 0.08)), -6, loss=0.24)
    _bone(
        scene,
        curve((-0.95, 0.31), (0, 0.33), (0.88, 0.22)),
        (0.09, 0.055, 0.05, 0.08),
        "fibula",
        loss=0.4,
    )
    _bone(
        scene,
        curve((-0.98, -0.12), (0, -0.1), (0.9, -0.06)),
        (0.28, 0.17, 0.14, 0.19),
        "tibia",
        loss=0.16,
    )


def _abdomen(scene: Scene, name: str) -> None:
    """A cut across the abdomen: skin, wall and bowel."""
    pool(scene, (1.5, 1.1))
    outline = oval((0, 0), ABDOMEN)
    stroke(scene, np.vstack([outline, outline[:1]]), 0.06, -9)
    fill(scene, outline, MUSCLE + 2)
    fill(scene, oval((0, 0), (0.9, 0.84)), TISSUE - 4)
    for start in (20, 130, 205, 310):
        stroke(scene, oval((0, 0), (0.93, 0.87), 0, (start, start + 22)), 0.045, -4, loss=0.24)
    if name:
        name_area(scene, outline, name)


def _limb(scene: Scene, path: Points, widths: tuple[float, ...]) -> None:
    """Skin and muscle around a bone, in fluid."""
    pool(scene, (1.75, 0.95))
    outline = band(path, widths)
    stroke(scene, np.vstack([outline, outline[:1]]), 0.04, -15)
    fill(scene, outline, MUSCLE)
    for shift in np.linspace(-0.3, 0.3, 5):
        stroke(scene, path * (0.7, 1.0) + (scene.rng.uniform(-0.2, 0.2), shift), 0.02, -25)


def _bone(scene: Scene, path: Points, widths: tuple[float, ...], name: str, loss: float) -> None:
    """A shaft, brightest on its surface, with a shadow behind it."""
    outline = band(path, widths)
    fill(scene, outline, BONE, name, loss=loss)
