"""A drawn scene: scatter and attenuation of each pixel, and the masks of named structures."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # [n, 2], x right and y down

# Echo levels in dB below the brightest specular echo.
FLUID, BRAIN, MUSCLE, LIVER, LUNG, TISSUE, BONE = -70.0, -42.0, -36.0, -31.0, -29.0, -31.0, 0.0
WALL = -14.0  # vessel walls, valves, membranes


@dataclass
class Scene:
    """Maps [H, W] in source pixels that the drawing functions fill.

    `pose` [2, 3] takes object units to pixels.
    """

    echo_db: NDArray[np.float32]
    loss_db: NDArray[np.float32]  # extra loss per pixel along the beam; below 0 in fluid
    pose: NDArray[np.float64]
    bend: NDArray[np.float64]  # phases of the gentle warp that makes no two fetuses alike
    rng: np.random.Generator
    masks: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """Pixels per object unit."""
        return float(np.hypot(self.pose[0, 0], self.pose[1, 0]))


@dataclass(frozen=True)
class Pose:
    """Pose of the anatomy: center in pixels, turn in degrees, pixels per unit, mirrored or not."""

    x: float
    y: float
    turn_deg: float
    scale: float
    mirror: bool = False

    def matrix(self) -> NDArray[np.float64]:
        """The affine map [2, 3] from object units to pixels."""
        turn = np.deg2rad(self.turn_deg)
        cosine, sine, flip = np.cos(turn), np.sin(turn), -1.0 if self.mirror else 1.0
        rotation = self.scale * np.array([[cosine * flip, -sine], [sine * flip, cosine]])
        return np.column_stack([rotation, [self.x, self.y]])


def new_scene(height: int, width: int, pose: Pose, rng: np.random.Generator) -> Scene:
    """A scene of uterine wall and placenta without a fetus."""
    echo = np.full((height, width), TISSUE, np.float32)
    scene = Scene(echo, np.zeros_like(echo), pose.matrix(), rng.uniform(0, 2 * np.pi, (2, 2)), rng)
    for level in (TISSUE - 6, TISSUE + 4, TISSUE - 3, TISSUE + 3):
        x, y = rng.uniform(-2.2, 2.2), rng.uniform(-1.6, 1.8)
        fill(scene, blob(scene, (x, y), (rng.uniform(0.5, 1.3), rng.uniform(0.25, 0.7))), level)
    for _ in range(5):
        x, y = rng.uniform(-2.2, 1.2), rng.uniform(0.9, 1.9)
        stroke(
            scene, curve((x, y), (x + 0.5, y + rng.normal(0, 0.08)), (x + 1.2, y - 0.1)), 0.03, -17
        )
    return scene


def blob(scene: Scene, center: tuple[float, float], radii: tuple[float, float]) -> Points:
    """An irregular closed outline around an ellipse."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    reach = np.ones_like(angle)
    for waves in (2, 3, 5):
        reach += scene.rng.normal(0, 0.16 / waves) * np.sin(
            waves * angle + scene.rng.uniform(0, 2 * np.pi)
        )
    return np.column_stack(
        [center[0] + radii[0] * reach * np.cos(angle), center[1] + radii[1] * reach * np.sin(angle)]
    )


def pool(scene: Scene, reach: tuple[float, float], loss: float = -0.01) -> None:
    """Amniotic fluid around the fetus, open to one side, with the bright far wall of the uterus."""
    center = (scene.rng.uniform(-0.35, 0.35), -0.2)
    outline = blob(scene, center, reach)
    stroke(scene, np.vstack([outline, outline[:1]]), 0.05, -21)
    fill(scene, outline, FLUID, loss=loss)


def oval(
    center: tuple[float, float],
    radii: tuple[float, float],
    turn_deg: float = 0.0,
    arc: tuple[float, float] = (0, 360),
) -> Points:
    """Points of an ellipse or of its arc between two angles (degrees, clockwise from the right)."""
    angle = np.deg2rad(np.linspace(*arc, max(12, int(abs(arc[1] - arc[0]) / 5))))
    turn = np.deg2rad(turn_deg)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    return np.column_stack(
        [
            center[0] + x * np.cos(turn) - y * np.sin(turn),
            center[1] + x * np.sin(turn) + y * np.cos(turn),
        ]
    )


def curve(*knots: tuple[float, float], closed: bool = False) -> Points:
    """A smooth line (Catmull-Rom) through the knots, 12 points per span."""
    points = np.asarray(knots, np.float64)
    padded = (
        np.vstack([points[-1:], points, points[:2]])
        if closed
        else np.vstack([points[:1], points, points[-1:]])
    )
    step = np.linspace(0, 1, 12, endpoint=False)[:, None]
    spans = []
    for before, start, stop, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        slope_in, slope_out = (stop - before) / 2, (after - start) / 2
        spans.append(
            start * (2 * step**3 - 3 * step**2 + 1)
            + slope_in * (step**3 - 2 * step**2 + step)
            + stop * (3 * step**2 - 2 * step**3)
            + slope_out * (step**3 - step**2)
        )
    return np.vstack([*spans, points[:1] if closed else points[-1:]])


def band(path: Points, widths: tuple[float, ...]) -> Points:
    """The outline of a line whose full width runs through `widths` from end to end."""
    along = np.gradient(path, axis=0)
    normal = (
        np.column_stack([-along[:, 1], along[:, 0]]) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    )
    half = (
        np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    )
    return np.vstack([path + normal * half, (path - normal * half)[::-1]])


def place(scene: Scene, points: Points) -> Points:
    """Object units to pixels, with the scene's gentle warp."""
    warped = (
        points
        + 0.03 * np.sin(1.9 * points[:, ::-1] + scene.bend[0])
        + 0.012 * np.sin(5.1 * points + scene.bend[1])
    )
    return np.asarray(warped @ scene.pose[:, :2].T + scene.pose[:, 2])


def fill(scene: Scene, outline: Points, echo: float, name: str = "", loss: float = 0.0) -> None:
    """Paint a closed outline; `name` adds it to a structure's mask, `loss` is in dB per pixel."""
    pixels = [_fixed(place(scene, outline))]
    cv2.fillPoly(scene.echo_db, pixels, echo, shift=3)
    cv2.fillPoly(scene.loss_db, pixels, loss, shift=3)
    if name:
        cv2.fillPoly(_mask(scene, name), pixels, 1, shift=3)


def stroke(
    scene: Scene, path: Points, width: float, echo: float, name: str = "", loss: float = 0.0
) -> None:
    """Paint along a path with the full `width` in object units."""
    pixels, thickness = [_fixed(place(scene, path))], max(1, round(width * scene.scale))
    cv2.polylines(scene.echo_db, pixels, False, echo, thickness, shift=3)
    if loss:
        cv2.polylines(scene.loss_db, pixels, False, loss, thickness, shift=3)
    if name:
        cv2.polylines(_mask(scene, name), pixels, False, 1, thickness, shift=3)


def name_area(scene: Scene, outline: Points, name: str) -> None:
    """Add an area to a structure's mask without painting it."""
    cv2.fillPoly(_mask(scene, name), [_fixed(place(scene, outline))], 1, shift=3)


def vessel(scene: Scene, path: Points, width: float, name: str = "") -> None:
    """A tube of blood with bright walls; the mask is the lumen."""
    stroke(scene, path, width * 1.28 + 0.03, WALL)
    stroke(scene, path, width, FLUID, name)


def chamber(scene: Scene, outline: Points, name: str = "", wall: float = WALL) -> None:
    """A cavity of fluid with a thin bright wall; the mask is the cavity."""
    stroke(scene, np.vstack([outline, outline[:1]]), 0.035, wall)
    fill(scene, outline, FLUID, name, loss=-0.02)


def speckle_threads(
    scene: Scene, outline: Points, count: int, echo: float, length: float = 0.2
) -> None:
    """Short bright wavy lines inside `outline` [n, 2]: sulci, bowel walls, muscle fibers."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    contour = outline.astype(np.float32)
    for start in scene.rng.uniform(low, high, (count, 2)):
        heading = scene.rng.uniform(-0.5, 0.5)
        middle = (
            start
            + length / 2 * np.array([np.cos(heading), np.sin(heading)])
            + scene.rng.normal(0, 0.03, 2)
        )
        end = start + length * np.array([np.cos(heading), np.sin(heading)])
        if all(
            cv2.pointPolygonTest(contour, (float(p[0]), float(p[1])), False) > 0
            for p in (start, middle, end)
        ):
            stroke(scene, curve(tuple(start), tuple(middle), tuple(end)), 0.018, echo)


def _mask(scene: Scene, name: str) -> NDArray[np.uint8]:
    return scene.masks.setdefault(name, np.zeros(scene.echo_db.shape, np.uint8))


def _fixed(pixels: Points) -> NDArray[np.int32]:
    return np.asarray(np.round(pixels * 8), np.int32)  # three fractional bits
