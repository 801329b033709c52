"""Drawings of the heart planes; one object unit is half of the width of the thorax."""

import numpy as np

from sono.curation.phantom.scene import (
    FLUID,
    LUNG,
    MUSCLE,
    WALL,
    Points,
    Scene,
    band,
    chamber,
    curve,
    fill,
    name_area,
    oval,
    pool,
    stroke,
    vessel,
)

MYOCARDIUM = -24.0


def four_chamber(scene: Scene) -> None:
    """Apex toward the probe: the septum runs along the beam."""
    thorax(scene, spine_deg=90)
    _chambers(scene, (-0.08, 0.0), turn_deg=-90)
    chamber(scene, oval((0.14, 0.6), (0.1, 0.1)), "descending aorta")


def four_chamber_h(scene: Scene) -> None:
    """The heart on its side: the septum lies across the beam, the spine at the side."""
    thorax(scene, spine_deg=0)
    _chambers(scene, (-0.05, 0.0), turn_deg=180)
    chamber(scene, oval((0.6, -0.16), (0.1, 0.1)), "descending aorta")


def lvot(scene: Scene) -> None:
    """The aorta leaves the long left ventricle; septum and front wall of the aorta are one line."""
    thorax(scene, spine_deg=75)
    fill(scene, oval((-0.12, 0.0), (0.72, 0.52), 18), MYOCARDIUM - 3)
    left = curve(
        (-0.72, -0.06),
        (-0.42, -0.12),
        (-0.02, 0.02),
        (0.05, 0.2),
        (-0.2, 0.22),
        (-0.55, 0.12),
        closed=True,
    )
    chamber(
        scene,
        curve(
            (-0.62, -0.3), (-0.3, -0.42), (0.1, -0.34), (0.12, -0.2), (-0.25, -0.24), closed=True
        ),
        "right ventricle",
    )
    chamber(scene, oval((0.24, 0.36), (0.2, 0.15), 20))  # left atrium
    chamber(scene, left, "left ventricle")
    root = curve((-0.02, 0.08), (0.2, 0.0), (0.45, -0.14), (0.66, -0.36))
    vessel(scene, root, 0.19, "aortic root")
    fill(scene, band(root[2:8], (0.26, 0.22)), FLUID)
    septum = curve((-0.7, -0.16), (-0.4, -0.22), (-0.1, -0.13), (0.06, -0.06))
    stroke(scene, septum, 0.075, -10, "interventricular septum")
    stroke(scene, curve((0.0, 0.22), (0.08, 0.1)), 0.03, -6)
    stroke(scene, curve((0.08, -0.03), (0.16, 0.02)), 0.02, -6)


def rvot(scene: Scene) -> None:
    """The pulmonary artery leaves the right ventricle in front and wraps around the cut aorta."""
    thorax(scene, spine_deg=95)
    fill(scene, oval((-0.1, -0.08), (0.66, 0.56), 0), MYOCARDIUM - 3)
    ventricle = curve(
        (-0.68, 0.1),
        (-0.62, -0.2),
        (-0.36, -0.45),
        (-0.08, -0.46),
        (-0.08, -0.28),
        (-0.32, -0.16),
        (-0.45, 0.16),
        closed=True,
    )
    chamber(scene, ventricle, "right ventricle")
    trunk = curve((-0.16, -0.4), (0.12, -0.42), (0.34, -0.22), (0.42, 0.06), (0.38, 0.32))
    vessel(scene, trunk, 0.21, "pulmonary artery")
    branch = curve((0.4, 0.02), (0.2, 0.26), (-0.08, 0.34))
    vessel(scene, branch, 0.13, "pulmonary artery")
    fill(scene, band(trunk[:6], (0.2, 0.2)), FLUID)
    fill(scene, band(branch[:8], (0.12, 0.12)), FLUID)
    chamber(scene, oval((0.02, -0.05), (0.17, 0.16)), "ascending aorta", wall=-7)
    chamber(scene, oval((-0.22, 0.2), (0.16, 0.1), 30))
    stroke(scene, curve((-0.12, -0.46), (-0.09, -0.38), (-0.12, -0.3)), 0.03, -6)


def three_vessel_trachea(scene: Scene) -> None:
    """Two arches meet in a V before the spine; vein and trachea are to their right."""
    thorax(scene, spine_deg=90)
    fill(scene, oval((-0.02, -0.1), (0.5, 0.62), 0), -23)
    pulmonary = curve((0.02, -0.62), (-0.06, -0.25), (-0.18, 0.12), (-0.28, 0.46))
    aorta = curve((0.36, -0.46), (0.26, -0.1), (0.02, 0.22), (-0.24, 0.46))
    vessel(scene, aorta, 0.15, "aorta")
    vessel(scene, pulmonary, 0.21, "pulmonary artery")
    fill(scene, band(aorta[24:], (0.13, 0.13)), FLUID)
    chamber(scene, oval((0.58, -0.32), (0.1, 0.1)), "superior vena cava", wall=-8)
    trachea = oval((0.3, 0.26), (0.085, 0.085))
    stroke(scene, np.vstack([trachea, trachea[:1]]), 0.075, -2)
    fill(scene, trachea, FLUID, "trachea")


def aortic_arch(scene: Scene) -> None:
    """The candy cane: a tight arch with three head vessels, then down along the spine."""
    _long_section(scene)
    _heart_corner(scene, (0.12, 0.12), 0.3)
    arch = oval((-0.3, 0.06), (0.34, 0.34), 0, (65, 290))
    path = np.vstack(
        [
            curve((0.95, 0.42), (0.4, 0.42), (-0.05, 0.4)),
            arch,
            curve((-0.16, -0.26), (0.06, -0.16), (0.2, -0.02)),
        ]
    )
    for degrees in (165, 200, 240):
        base = oval((-0.3, 0.06), (0.34, 0.34), 0, (degrees, degrees + 1))[0]
        tip = base + 0.4 * (base - (-0.1, 0.3))
        vessel(scene, curve(tuple(base), tuple(tip)), 0.07)
    vessel(scene, path, 0.15)
    _name_tube(scene, curve((0.95, 0.42), (0.4, 0.42), (-0.05, 0.4)), 0.15, "descending aorta")
    _name_tube(scene, arch, 0.15, "aortic arch")
    _name_tube(scene, curve((-0.16, -0.26), (0.06, -0.16), (0.2, -0.02)), 0.15, "ascending aorta")


def ductal_arch(scene: Scene) -> None:
    """The hockey stick: straight from the front of the heart, then an open angle down the spine."""
    _long_section(scene)
    _heart_corner(scene, (0.5, -0.42), 0.34)
    trunk, duct = (
        curve((0.42, -0.55), (0.16, -0.36), (-0.12, -0.12)),
        curve((-0.12, -0.12), (-0.36, 0.12), (-0.5, 0.3)),
    )
    descending = curve((-0.5, 0.32), (-0.36, 0.42), (0.2, 0.43), (0.95, 0.42))
    chamber(scene, oval((0.14, 0.0), (0.13, 0.12)))  # the aorta cut across
    vessel(scene, np.vstack([trunk, duct, descending]), 0.19)
    _name_tube(scene, descending, 0.19, "descending aorta")
    _name_tube(scene, duct, 0.19, "ductus arteriosus")
    _name_tube(scene, trunk, 0.19, "pulmonary artery")
    stroke(scene, curve((0.24, -0.5), (0.32, -0.38)), 0.025, -6)


def thorax(scene: Scene, spine_deg: float) -> None:
    """A cut across the chest: skin, ribs, lungs and the spine at an angle from the right."""
    pool(scene, (1.5, 1.1))
    stroke(scene, oval((0, 0), (1.02, 0.98)), 0.05, -12)
    fill(scene, oval((0, 0), (1.0, 0.96)), MUSCLE)
    fill(scene, oval((0, 0), (0.88, 0.84)), LUNG)
    for start in (-130, -75, 30, 85):
        stroke(
            scene,
            oval((0, 0), (0.92, 0.88), 0, (spine_deg + 180 + start, spine_deg + 205 + start)),
            0.055,
            -2,
            loss=0.72,
        )
    spine(scene, spine_deg, 0.82)


def spine(scene: Scene, degrees: float, distance: float, name: str = "") -> None:
    """The triangle of bright centers of a vertebra, with its shadow."""
    ray = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    across = np.array([-ray[1], ray[0]])
    for point in (
        ray * (distance - 0.09),
        ray * (distance + 0.06) + across * 0.12,
        ray * (distance + 0.06) - across * 0.12,
    ):
        fill(scene, oval((point[0], point[1]), (0.075, 0.06)), 0.0, loss=0.96)
    if name:
        name_area(scene, oval(tuple(ray * distance), (0.2, 0.17), degrees - 90), name)


def _chambers(scene: Scene, center: tuple[float, float], turn_deg: float) -> None:
    """Four chambers with the apex at `turn_deg`; the cross of septa and valves between them."""
    turn = np.deg2rad(turn_deg)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])

    def local(points: Points) -> Points:
        return np.asarray(points @ axes + center)

    fill(
        scene,
        local(
            curve(
                (0.66, 0.0),
                (0.3, 0.42),
                (-0.3, 0.46),
                (-0.54, 0.0),
                (-0.3, -0.46),
                (0.3, -0.42),
                closed=True,
            )
        ),
        MYOCARDIUM,
    )
    for side, name in ((-1, "left"), (1, "right")):
        ventricle = curve(
            (0.5, side * 0.08),
            (0.3, side * 0.3),
            (0.03, side * 0.34),
            (0.02, side * 0.07),
            closed=True,
        )
        chamber(scene, local(ventricle), f"{name} ventricle")
        chamber(scene, local(oval((-0.25, side * 0.22), (0.2, 0.17))), f"{name} atrium")
        stroke(
            scene,
            local(curve((0.0, side * 0.05), (0.03, side * 0.2), (-0.01, side * 0.38))),
            0.03,
            -5,
        )
    stroke(
        scene,
        local(curve((0.0, 0.0), (0.3, 0.01), (0.58, 0.0))),
        0.075,
        -9,
        "interventricular septum",
    )
    stroke(scene, local(curve((-0.45, 0.0), (-0.3, 0.0))), 0.035, -9)
    stroke(scene, local(curve((-0.12, 0.0), (0.0, 0.0))), 0.05, -6)


def _long_section(scene: Scene) -> None:
    """A cut along the trunk: chest wall in front, the dotted line of the spine behind."""
    pool(scene, (1.6, 0.5))
    trunk = curve(
        (-1.1, -0.55),
        (0, -0.78),
        (1.2, -0.66),
        (1.35, 0),
        (1.2, 0.72),
        (0, 0.8),
        (-1.1, 0.66),
        (-1.2, 0),
        closed=True,
    )
    stroke(scene, trunk, 0.05, -13)
    fill(scene, trunk, LUNG)
    fill(
        scene,
        curve((0.75, -0.6), (1.2, -0.6), (1.3, 0.2), (0.9, 0.3), (0.62, -0.1), closed=True),
        LUNG - 6,
    )
    for x in np.linspace(-1.0, 1.15, 12):
        stroke(scene, curve((x, 0.64), (x + 0.08, 0.64)), 0.075, -1, loss=0.8)


def _heart_corner(scene: Scene, center: tuple[float, float], size: float) -> None:
    x, y = center
    fill(scene, oval(center, (size * 1.5, size * 1.1), -20), MYOCARDIUM - 2)
    chamber(scene, oval((x - 0.02, y - 0.02), (size * 0.75, size * 0.45), -20))
    stroke(scene, curve((x - size * 0.3, y), (x + size, y - size * 0.2)), 0.03, WALL)


def _name_tube(scene: Scene, path: Points, width: float, name: str) -> None:
    name_area(scene, band(path, (width, width)), name)
