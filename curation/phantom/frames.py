"""One exposure: a plane drawn for a center's probe and settings, with masks and burned-in text."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sono.curation.phantom.anatomy import draw_plane, visible_masks
from sono.curation.phantom.burned_in_overlays import calipers, side_banner, top_banner
from sono.curation.phantom.patients import INSTITUTIONS, Exam, PhantomPatient
from sono.curation.phantom.physics import Look, Probe, render

# Center A: a wide sector, fine compounded speckle, high contrast. B: a narrow one, coarse speckle,
# lifted blacks.
PROBES = {
    "A": Probe(600, 800, 400, -70, 35, 110, 650),
    "B": Probe(540, 720, 372, -144, 24, 200, 664),
}
LOOKS = {
    "A": Look(220, 480, 2, 54, 1.3, (1.1, 1.1), 2, 6),
    "B": Look(160, 420, 5, 50, 1.0, (1.2, 1.8), 1, 3),
}
MEASURED = {
    "transthalamic": "fetal head", "transventricular": "fetal head",
    "abdominal_circumference": "fetal abdomen", "femur": "femur", "humerus": "humerus",
    "crown_rump_length": "fetal trunk",
    "nuchal_translucency": "nuchal translucency",
}  # fmt: skip


@dataclass(frozen=True)
class Exposure:
    """A frame with its ground truth; `frames` [n, H, W], masks [H, W] of the first."""

    frames: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    probe: Probe
    spacing_mm: float
    biometry_mm: dict[str, float]
    burned: list[str]  # private text outside the sector
    calipers: bool


def expose(
    patient: PhantomPatient, exam: Exam, plane: str, rng: np.random.Generator, count: int = 1
) -> Exposure:
    """Draw, scan and label `plane`; `count` frames of a cine differ in their speckle only."""
    probe, look = _setup(patient)
    drawn = draw_plane(plane, probe, exam.ga_days, rng)
    look = replace(
        look,
        gain_db=look.gain_db + rng.normal(0, 1.8),
        far_loss_db=look.far_loss_db + rng.uniform(-3, 3),
    )
    frames = np.stack([render(drawn.scene, probe, look, rng) for _ in range(count)])
    masks = visible_masks(drawn.scene, plane, probe)
    measured = MEASURED.get(plane) in masks and rng.random() < 0.2
    burned = banner_lines(patient, exam)
    for frame in frames:
        if measured:
            calipers(frame, masks[MEASURED[plane]])
        burn_banner(frame, patient, exam, probe, drawn.spacing_mm)
    return Exposure(frames, masks, probe, drawn.spacing_mm, drawn.biometry_mm, burned, measured)


def banner_lines(patient: PhantomPatient, exam: Exam) -> list[str]:
    """The private lines that each machine of the patient's center burns in."""
    if patient.center == "A":
        return [patient.dicom_name, patient.mrn, f"{exam.day:%d.%m.%Y}", INSTITUTIONS["A"]]
    return [
        INSTITUTIONS["B"],
        f"{patient.surname}, {patient.forename}",
        f"ID {patient.mrn}",
        f"{exam.day:%d/%m/%Y} 09:41",
    ]


def burn_banner(
    frame: NDArray[np.uint8], patient: PhantomPatient, exam: Exam, probe: Probe, spacing_mm: float
) -> None:
    """Write the layout of the patient's center into `frame`, outside the sector."""
    depth_cm = probe.depth * spacing_mm / 10
    settings = [
        "2./3. Trim.",
        f"{depth_cm:.1f} cm",
        "MI 1.1  TIb 0.3",
        "Gn -2",
        "C7 / M5",
        "FF2 / E3",
    ]
    burn = top_banner if patient.center == "A" else side_banner
    burn(frame, banner_lines(patient, exam), settings, probe, spacing_mm)


def _setup(patient: PhantomPatient) -> tuple[Probe, Look]:
    """The center's probe and image settings; its two machines differ a little."""
    probe, look = PROBES[patient.center], LOOKS[patient.center]
    if patient.machine.endswith("0"):
        wider = replace(
            probe, half_angle_deg=probe.half_angle_deg - 1.5, radius_max=probe.radius_max - 10
        )
        return wider, replace(look, range_db=look.range_db + 3)
    return probe, look
