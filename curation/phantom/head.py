"""Drawings of the head and face planes and of the early fetus.

One object unit is half of the largest diameter.
"""

import numpy as np

from sono.curation.phantom.scene import (
    BONE,
    BRAIN,
    FLUID,
    LIVER,
    LUNG,
    MUSCLE,
    TISSUE,
    Scene,
    band,
    curve,
    fill,
    name_area,
    oval,
    pool,
    speckle_threads,
    stroke,
)

HEAD = (1.0, 0.78)  # half the occipitofrontal and half the biparietal diameter
EARLY_HEAD = (1.0, 0.84)
NUCHAL_WIDTH = 0.1  # thickest part of the translucency


def transthalamic(scene: Scene) -> None:
    """Falx broken by the cavum, thalami on both sides of the slit of the third ventricle."""
    _skull(scene, HEAD)
    _falx(scene, (-0.93, -0.66), (0.34, 0.93))
    _cavum(scene, -0.48)
    for side in (-1, 1):
        thalamus = curve(
            (-0.2, side * 0.04),
            (0.06, side * 0.3),
            (0.33, side * 0.2),
            (0.26, side * 0.03),
            closed=True,
        )
        stroke(scene, thalamus, 0.03, -17)
        fill(scene, thalamus, BRAIN - 9, "thalami")
        stroke(
            scene, curve((-0.3, side * 0.5), (-0.05, side * 0.4), (0.22, side * 0.52)), 0.03, -15
        )
    stroke(scene, curve((-0.16, 0), (0.24, 0)), 0.075, -14)
    stroke(scene, curve((-0.15, 0), (0.23, 0)), 0.035, FLUID, "third ventricle")


def transventricular(scene: Scene) -> None:
    """The far lateral ventricle with its choroid plexus, above the thalami."""
    _skull(scene, HEAD)
    _falx(scene, (-0.93, -0.62), (-0.2, 0.93))
    _cavum(scene, -0.42)
    horn = curve(
        (-0.12, 0.2),
        (0.25, 0.16),
        (0.62, 0.22),
        (0.76, 0.36),
        (0.6, 0.47),
        (0.25, 0.38),
        (-0.1, 0.3),
        closed=True,
    )
    stroke(scene, horn, 0.04, -9)
    fill(scene, horn, FLUID, "lateral ventricle", loss=-0.02)
    plexus = curve((-0.08, 0.23), (0.2, 0.2), (0.46, 0.27), (0.4, 0.38), (0.12, 0.35), closed=True)
    fill(scene, plexus, -10, "choroid plexus")
    stroke(scene, curve((-0.1, -0.2), (0.3, -0.24), (0.66, -0.32)), 0.035, -14)
    stroke(scene, curve((-0.75, 0.14), (-0.55, 0.16)), 0.03, -13)
    stroke(scene, curve((-0.75, -0.14), (-0.55, -0.16)), 0.03, -13)


def transcerebellar(scene: Scene) -> None:
    """The dumb-bell of the cerebellum before the dark cisterna magna."""
    _skull(scene, (1.0, 0.74))
    _falx(scene, (-0.93, -0.6), (-0.2, -0.15))
    _cavum(scene, -0.42)
    for side in (-1, 1):
        thalamus = oval((0.02, side * 0.14), (0.19, 0.11), side * 20)
        stroke(scene, thalamus, 0.025, -18)
        fill(scene, thalamus, BRAIN - 9, "thalami")
    cistern = curve(
        (0.66, -0.42), (0.88, -0.26), (0.93, 0), (0.88, 0.26), (0.66, 0.42), (0.7, 0), closed=True
    )
    fill(scene, cistern, FLUID, "cisterna magna", loss=-0.02)
    for side in (-1, 1):
        lobe = oval((0.55, side * 0.23), (0.2, 0.24), side * -12)
        stroke(scene, lobe, 0.045, -8)
        fill(scene, lobe, -30, "cerebellum")
        for shift in (-0.06, 0.04):
            stroke(
                scene, oval((0.55 + shift, side * 0.23), (0.05, 0.15), 0, (100, 260)), 0.018, -19
            )
    fill(scene, oval((0.58, 0), (0.12, 0.12)), -11, "cerebellum")


def early_pregnancy_head(scene: Scene) -> None:
    """Two bright choroid plexuses, the butterfly, fill a thin-walled head."""
    pool(scene, (1.45, 1.23))
    _skull(scene, EARLY_HEAD, thickness=0.05, brain=-52)
    _falx(scene, (-0.95, 0.95), (-0.95, 0.95))
    for side in (-1, 1):
        wing = curve(
            (-0.55, side * 0.3), (-0.3, side * 0.16), (0.3, side * 0.13), (0.62, side * 0.4),
            (0.25, side * 0.55), (-0.3, side * 0.46), closed=True,
        )  # fmt: skip
        fill(scene, wing, -11, "choroid plexus")


def nuchal_translucency(scene: Scene) -> None:
    """Head and chest of an early fetus in the midline, face up, the dark band behind the neck."""
    pool(scene, (1.5, 1.27))
    body = curve(
        (-0.95, -0.1), (-0.78, -0.5), (-0.45, -0.62), (-0.2, -0.5), (-0.06, -0.22), (0.3, -0.28),
        (1.0, -0.3), (1.3, 0.2), (1.0, 0.62), (0.4, 0.6), (0.0, 0.48), (-0.3, 0.52), (-0.7, 0.4),
        closed=True,
    )  # fmt: skip
    stroke(scene, body, 0.05, -12)
    fill(scene, body, MUSCLE)
    fill(scene, oval((-0.52, -0.08), (0.37, 0.42)), BRAIN - 6)
    stroke(scene, oval((-0.52, -0.08), (0.39, 0.45), 0, (85, 300)), 0.05, -4, loss=0.4)
    _midline_brain(scene)
    _early_face(scene)
    fold = curve((-0.36, 0.45), (-0.1, 0.4), (0.2, 0.46), (0.62, 0.55))
    fill(scene, band(fold, (0.04, NUCHAL_WIDTH, NUCHAL_WIDTH, 0.04)), FLUID, "nuchal translucency")
    stroke(scene, fold + np.array([0.0, 0.07]), 0.035, -5)
    stroke(scene, fold - np.array([0.0, 0.07]), 0.03, -8)
    fill(scene, oval((0.75, 0.1), (0.36, 0.26)), LUNG - 4)
    fill(scene, oval((0.55, 0.02), (0.15, 0.12)), -50)
    for x in np.linspace(0.1, 1.15, 9):
        stroke(scene, curve((x, 0.32 + 0.12 * x), (x + 0.05, 0.32 + 0.12 * x)), 0.045, -3)


def crown_rump_length(scene: Scene) -> None:
    """The complete fetus, crown to rump, in a dark sac."""
    fill(scene, oval((0.05, -0.02), (1.5, 0.85), 4), FLUID, loss=-0.015)
    stroke(scene, oval((0.05, -0.02), (1.52, 0.87), 4), 0.04, -16)
    trunk = curve(
        (-0.4, 0.02), (-0.2, -0.16), (0.2, -0.3), (0.6, -0.26), (0.95, 0.0), (0.97, 0.25),
        (0.6, 0.36), (0.1, 0.36), (-0.3, 0.26), closed=True,
    )  # fmt: skip
    limbs = (
        ((0.72, -0.18), (0.62, -0.42), (0.82, -0.5), (0.98, -0.42)),
        ((0.0, -0.2), (0.1, -0.4), (-0.12, -0.42)),
    )
    for limb in limbs:
        stroke(scene, curve(*limb), 0.12, -26)
        stroke(scene, curve(*limb), 0.035, -6)
    stroke(scene, trunk, 0.04, -12)
    fill(scene, trunk, LIVER, "fetal trunk")
    head = oval((-0.62, -0.1), (0.4, 0.35), -18)
    stroke(scene, head, 0.06, -3, loss=0.24)
    fill(scene, head, -45)
    name_area(scene, head, "fetal head")
    fill(scene, oval((-0.6, -0.08), (0.24, 0.12), -18), -20)
    stroke(scene, curve((-0.95, -0.22), (-0.88, -0.35)), 0.05, -6)
    for x in np.linspace(-0.3, 0.85, 13):
        stroke(
            scene,
            curve((x, 0.27 - 0.12 * (x - 0.3) ** 2), (x + 0.04, 0.27 - 0.12 * (x - 0.3) ** 2)),
            0.045,
            -2,
        )
    fill(scene, oval((-0.05, 0.04), (0.13, 0.09), 30), -46)
    fill(scene, oval((0.34, 0.08), (0.09, 0.05), 15), FLUID)


def profile(scene: Scene) -> None:
    """The profile in the midline: forehead, nose, lips and chin against fluid."""
    pool(scene, (1.5, 0.95))
    contour = curve(
        (-1.25, 0.5), (-1.1, 0.12), (-0.8, -0.2), (-0.42, -0.32), (-0.14, -0.2), (0.06, -0.46),
        (0.16, -0.5), (0.2, -0.36), (0.22, -0.22), (0.36, -0.34), (0.42, -0.2), (0.54, -0.3),
        (0.6, -0.14), (0.78, -0.26), (0.93, -0.1), (0.98, 0.2), (1.3, 0.4),
    )  # fmt: skip
    face = np.vstack([contour, [(1.35, 1.2), (-1.3, 1.2)]])
    fill(scene, face, MUSCLE - 3)
    stroke(scene, contour, 0.035, -7)
    skull = curve((-1.15, 0.45), (-1.0, 0.15), (-0.75, -0.1), (-0.42, -0.22), (-0.22, -0.16))
    stroke(scene, skull, 0.06, -2, loss=0.8)
    fill(
        scene,
        band(
            curve((-1.1, 0.25), (-0.8, -0.11), (-0.42, -0.25), (-0.22, -0.19)),
            (0.1, 0.15, 0.13, 0.08),
        ),
        -16,
        "forehead",
    )
    stroke(scene, skull, 0.05, -2)
    stroke(scene, curve((-0.12, -0.16), (0.08, -0.33)), 0.055, BONE, "nasal bone", loss=0.48)
    fill(scene, oval((0.36, -0.23), (0.085, 0.085)), -15, "upper lip")
    fill(scene, oval((0.53, -0.19), (0.075, 0.08)), -15, "lower lip")
    fill(scene, oval((0.79, -0.15), (0.12, 0.1)), -17, "chin")
    stroke(scene, curve((0.14, -0.08), (0.34, -0.04)), 0.07, -2, loss=0.72)
    stroke(scene, curve((0.6, 0.04), (0.78, 0.0), (0.86, 0.08)), 0.07, -2, loss=0.72)
    stroke(scene, curve((-0.1, 0.15), (0.5, 0.2)), 0.05, -12)
    fill(scene, oval((0.42, 0.07), (0.24, 0.06), 6), -48)
    fill(scene, oval((-0.62, 0.45), (0.4, 0.35)), -44)


def eye(scene: Scene) -> None:
    """Both orbits, dark and round, each with the ring of its lens."""
    pool(scene, (1.35, 1.15))
    face = oval((0, 0.12), (1.0, 0.86))
    stroke(scene, face, 0.05, -9)
    fill(scene, face, MUSCLE)
    stroke(scene, oval((0, 0.12), (0.97, 0.82), 0, (185, 355)), 0.05, -5, loss=0.16)
    # the patient's left of the picture is the fetus's right here
    for side, name in ((-1, "right"), (1, "left")):
        orbit = oval((side * 0.46, 0.0), (0.3, 0.27))
        stroke(scene, oval((side * 0.46, 0.0), (0.32, 0.29)), 0.06, -3, loss=0.16)
        fill(scene, orbit, -66, f"{name} orbit", loss=-0.02)
        lens = oval((side * 0.44, -0.13), (0.1, 0.085))
        stroke(scene, lens, 0.035, -5)
        fill(scene, lens, -60)
        name_area(scene, lens, f"{name} lens")
    stroke(scene, curve((-0.08, -0.12), (0, -0.22), (0.08, -0.12)), 0.05, -3, loss=0.4)
    stroke(scene, curve((0, -0.05), (0, 0.35)), 0.05, -14)
    for side in (-1, 1):
        stroke(
            scene,
            curve((side * 0.1, 0.45), (side * 0.3, 0.52), (side * 0.5, 0.5)),
            0.06,
            -7,
            loss=0.32,
        )
    speckle_threads(scene, oval((0, 0.55), (0.7, 0.3)), 14, -18)


def _skull(
    scene: Scene, radii: tuple[float, float], thickness: float = 0.065, brain: float = BRAIN
) -> None:
    """Scalp, bone and brain; the mask of the head reaches to the outer border of the bone."""
    outline = oval((0, 0), radii)
    fill(scene, oval((0, 0), (radii[0] * 1.09, radii[1] * 1.1)), TISSUE - 4)
    fill(scene, outline, BONE, loss=0.3)
    inner = (radii[0] - thickness, radii[1] - thickness)
    fill(scene, oval((0, 0), inner), brain)
    name_area(scene, outline, "fetal head")
    count = 26 if brain == BRAIN else 0
    speckle_threads(scene, oval((0, 0), (inner[0] * 0.92, inner[1] * 0.9)), count, -23, 0.16)


def _falx(scene: Scene, *parts: tuple[float, float]) -> None:
    """The midline echo, in pieces from x to x; the mask joins them."""
    for start, stop in parts:
        stroke(
            scene,
            curve((start, 0), ((start + stop) / 2, 0.008), (stop, 0)),
            0.028,
            -5,
            "midline falx",
        )


def _cavum(scene: Scene, x: float) -> None:
    """The box of the cavum septi pellucidi: fluid between two parallel lines."""
    box = np.array([(x - 0.15, -0.075), (x + 0.15, -0.06), (x + 0.15, 0.06), (x - 0.15, 0.075)])
    fill(scene, box, FLUID, "cavum septi pellucidi")
    for side in (-1, 1):
        stroke(scene, curve((x - 0.16, side * 0.085), (x + 0.16, side * 0.07)), 0.03, -5)


def _midline_brain(scene: Scene) -> None:
    fill(scene, oval((-0.55, -0.12), (0.15, 0.11), 25), -31, "thalami")
    fill(scene, oval((-0.42, 0.08), (0.13, 0.09), 40), -27, "midbrain")
    fill(
        scene,
        band(curve((-0.36, 0.19), (-0.27, 0.22), (-0.18, 0.28)), (0.07, 0.06)),
        FLUID,
        "intracranial translucency",
    )
    stroke(scene, curve((-0.4, 0.24), (-0.3, 0.27), (-0.2, 0.33)), 0.03, -9)
    fill(scene, oval((-0.33, 0.33), (0.12, 0.045), 25), FLUID, "cisterna magna")


def _early_face(scene: Scene) -> None:
    stroke(scene, curve((-0.36, -0.5), (-0.23, -0.42)), 0.045, -1, "nasal bone")
    stroke(scene, curve((-0.38, -0.57), (-0.24, -0.51)), 0.03, -6)
    fill(scene, oval((-0.16, -0.47), (0.055, 0.05)), -5, "nasal tip")
    stroke(scene, curve((-0.3, -0.28), (-0.1, -0.3)), 0.06, -2, "palate")
    stroke(scene, curve((-0.2, -0.12), (-0.05, -0.18)), 0.06, -3, loss=0.24)
