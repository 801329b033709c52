"""Compute a B-mode frame from a drawn scene.

The steps are beams, shadows, speckle, log compression and the sector of the probe.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.phantom.scene import Scene


@dataclass(frozen=True)
class Probe:
    """A convex sector in a frame of `height` x `width` pixels.

    Apex and radii are in pixels, half of the opening angle is in degrees.
    """

    height: int
    width: int
    apex_x: float
    apex_y: float
    half_angle_deg: float
    radius_min: float
    radius_max: float

    @property
    def depth(self) -> float:
        """Pixels from the skin to the end of the beams."""
        return self.radius_max - self.radius_min

    def point(self, angle_share: float, depth_share: float) -> tuple[float, float]:
        """Pixel at a share of the half opening (-1 to 1) and of the depth (0 to 1)."""
        angle = np.deg2rad(self.half_angle_deg * angle_share)
        radius = self.radius_min + depth_share * self.depth
        return float(self.apex_x + radius * np.sin(angle)), float(
            self.apex_y + radius * np.cos(angle)
        )

    def polygon(self) -> list[list[float]]:
        """The border of the sector, clockwise from the upper left, in source pixels."""
        shares = np.linspace(-1, 1, 25)
        border = [self.point(s, 0) for s in shares] + [self.point(s, 1) for s in shares[::-1]]
        return [[round(x, 1), round(y, 1)] for x, y in border]


@dataclass(frozen=True)
class Look:
    """The settings of a machine that turn echoes into gray tones."""

    beams: int
    samples: int
    gain_db: float
    range_db: float  # dynamic range shown
    gamma: float
    grain: tuple[float, float]  # speckle size: beams, samples
    looks: int  # independent speckle patterns averaged (compounding)
    far_loss_db: float  # what the gain over depth leaves uncorrected


def render(scene: Scene, probe: Probe, look: Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A gray frame [H, W], black outside the sector."""
    across, along, inside = _polar_grid(probe, look.beams, look.samples)
    x, y = _ragged(*_cartesian_grid(probe, look.beams, look.samples), rng)
    echo = _sampled(scene.echo_db, x, y, cv2.BORDER_REPLICATE)
    loss = _sampled(scene.loss_db, x, y, cv2.BORDER_CONSTANT)
    level = _near_field(_angle_dependence(echo) + _texture(echo.shape, rng), rng)
    level = _blurred(level, look.grain[0] * 0.7, look.grain[1] * 0.5)
    level += _propagation(loss, probe, look) + _poor_contact(look.beams, rng)
    shown = _with_clutter(level, rng) + _speckle_db(echo.shape, look, rng)
    gray = np.clip((shown + look.range_db + look.gain_db) / look.range_db, 0, 1) ** look.gamma
    frame = cv2.remap(gray.astype(np.float32), across, along, cv2.INTER_LINEAR)
    return np.asarray(np.where(inside, np.round(frame * 255), 0), np.uint8)


def sector_mask(probe: Probe) -> NDArray[np.bool_]:
    """The pixels [H, W] inside the sector."""
    return _polar_grid(probe, 8, 8)[2]


@lru_cache(maxsize=4)
def _polar_grid(
    probe: Probe, beams: int, samples: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """For each pixel [H, W]: beam number, sample number, and whether it is inside the sector."""
    y, x = np.mgrid[0 : probe.height, 0 : probe.width].astype(np.float32)
    dx, dy = x - np.float32(probe.apex_x), y - np.float32(probe.apex_y)
    half = np.float32(np.deg2rad(probe.half_angle_deg))
    angle, depth = np.arctan2(dx, dy) / half, (np.hypot(dx, dy) - probe.radius_min) / probe.depth
    inside = (np.abs(angle) <= 1) & (depth >= 0) & (depth <= 1)
    return (angle + 1) / 2 * (beams - 1), np.asarray(depth * (samples - 1), np.float32), inside


@lru_cache(maxsize=4)
def _cartesian_grid(
    probe: Probe, beams: int, samples: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each sample of each beam [samples, beams]: x and y in pixels."""
    angle = np.deg2rad(np.linspace(-probe.half_angle_deg, probe.half_angle_deg, beams))[None]
    radius = np.linspace(probe.radius_min, probe.radius_max, samples)[:, None]
    x, y = probe.apex_x + radius * np.sin(angle), probe.apex_y + radius * np.cos(angle)
    return x.astype(np.float32), y.astype(np.float32)


def _sampled(
    picture: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], border: int
) -> NDArray[np.float32]:
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border), np.float32)


def _blurred(level: NDArray[np.float32], across: float, along: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(level, (0, 0), sigmaX=across, sigmaY=along), np.float32)


def _ragged(
    x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Move the sampling points by one or two pixels, so that no border is a drawn line."""
    shift = np.zeros((2, *x.shape), np.float32)
    for cells, pixels in ((24, 1.6), (60, 1.2)):
        shift += np.stack([_smooth_noise(x.shape, cells, pixels, rng) for _ in range(2)])
    return x + shift[0], y + shift[1]


def _angle_dependence(echo: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth reflectors lose up to 20 dB where the beam grazes them."""
    smooth = cv2.GaussianBlur(echo, (0, 0), 3)
    down, sideways = cv2.Sobel(smooth, cv2.CV_32F, 0, 1), cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    facing = cv2.GaussianBlur(np.abs(down) / (np.hypot(down, 1.5 * sideways) + 1), (0, 0), 4)
    specular = np.clip((echo + 24) / 12, 0, 1)
    return np.asarray(echo - 20 * specular * (1 - facing), np.float32)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Unevenness of tissue in dB, from the size of an organ down to that of a lobule."""
    sizes = ((7, 2.0), (22, 1.8), (70, 2.2))
    return np.asarray(
        sum(_smooth_noise(shape, cells, spread, rng) for cells, spread in sizes), np.float32
    )


def _smooth_noise(
    shape: tuple[int, ...], cells: int, spread: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    coarse = rng.normal(0, spread, (cells, cells)).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32
    )


def _with_clutter(level: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Add reverberation near the probe, side lobes of bright echoes, and noise with depth."""
    depth = np.linspace(0, 1, len(level), dtype=np.float32)[:, None]
    power = 10 ** (level / 10)
    lobes = cv2.blur(power, (25, 3)) * 10**-2.6
    haze = 10 ** ((-38 - 42 * depth + _smooth_noise(level.shape, 8, 4, rng)) / 10)
    floor = 10 ** ((-62 + 10 * depth) / 10)
    return np.asarray(10 * np.log10(power + lobes + haze + floor), np.float32)


def _near_field(level: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Skin, fat and uterine wall: bright wavy layers over the first eighth of the depth."""
    samples, beams = level.shape
    depth = np.arange(samples, dtype=np.float32)[:, None] / samples
    wave = rng.normal(0, 0.004, 6).astype(np.float32)[None]
    ripple = cv2.resize(wave, (beams, 1), interpolation=cv2.INTER_CUBIC)
    end = rng.uniform(0.09, 0.13) + 2 * ripple
    layers = sum(
        rng.uniform(9, 17) * np.exp(-(((depth - place - ripple) / 0.006) ** 2))
        for place in np.sort(rng.uniform(0.005, 0.13, 5))
    )
    wall = np.clip((end - depth) / 0.012, 0, 1)
    return np.asarray(level * (1 - wall) + wall * -27 + layers, np.float32)


def _propagation(loss: NDArray[np.float32], probe: Probe, look: Look) -> NDArray[np.float32]:
    """Attenuation (shadow) or enhancement of sound on its way to each sample, in dB."""
    lost = np.cumsum(loss, axis=0) * (probe.depth / look.samples)
    behind = np.roll(lost, 3, axis=0)  # a reflector does not shade its own face
    behind[:3] = 0
    shadow = cv2.GaussianBlur(-np.clip(behind, -6, 30), (0, 0), sigmaX=2.5, sigmaY=0.8)
    depth = np.linspace(0, 1, look.samples, dtype=np.float32)[:, None]
    return np.asarray(shadow - look.far_loss_db * depth**2, np.float32)


def _poor_contact(beams: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Weaker beams at the edges of the probe and an occasional dark stripe, in dB [1, beams]."""
    place = np.linspace(-1, 1, beams, dtype=np.float32)
    drop = 7 * np.abs(place) ** 5
    if rng.random() < 0.4:
        drop += rng.uniform(5, 13) * np.exp(
            -(((place - rng.uniform(-0.95, 0.95)) / rng.uniform(0.05, 0.13)) ** 2)
        )
    return np.asarray(-drop[None], np.float32)


def _speckle_db(
    shape: tuple[int, ...], look: Look, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Fully developed (Rayleigh) speckle in dB with a mean intensity of 0 dB.

    `looks` patterns are averaged.
    """
    power = np.zeros(shape, np.float32)
    for _ in range(look.looks):
        parts = rng.standard_normal((2, *shape), np.float32)
        for part in parts:
            smooth = cv2.GaussianBlur(part, (0, 0), sigmaX=look.grain[0], sigmaY=look.grain[1])
            power += (smooth / smooth.std()) ** 2
    return np.asarray(10 * np.log10(power / (2 * look.looks) + 1e-4), np.float32)
