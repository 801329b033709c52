"""A synthetic study of two centers.

It has drawn fetuses, invented patients and planted defects, with the ground truth.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sono.curation.core.atomic_folders import new_folder, refuse_used_folder
from sono.curation.core.console import Advance, progress
from sono.curation.core.errors import SonoError
from sono.curation.phantom.anatomy import DRAWINGS, FIRST_TRIMESTER
from sono.curation.phantom.defects import plant_defects
from sono.curation.phantom.files import DicomForm, Export, Planted, dicom_file, jpeg_file, png_file
from sono.curation.phantom.frames import Exposure, expose
from sono.curation.phantom.manifest import (
    Expected,
    Manifest,
    PhantomFrame,
    add_file,
    add_masks,
    close,
    file_name,
    frame_facts,
)
from sono.curation.phantom.patients import Exam, PhantomPatient, make_patient

CENTERS = ("A", "B")
FORMATS = (".jpg", ".png", ".jpg", ".dcm", ".jpg", ".png")  # patient by patient
CINE_FRAMES = 3
MIN_PATIENTS, MAX_PATIENTS, MIN_FRAMES, MAX_FRAMES = 4, 600, 2, 500


@dataclass(frozen=True)
class PhantomSummary:
    """What was written: patients, all files, planted files, frames of the others, masks, bytes."""

    out: Path
    patients: int
    files: int
    planted: int
    frames: int
    masks: int
    size_bytes: int


def make_phantom(
    out: Path, patients: int = 60, frames_per_patient: int = 8, seed: int = 0
) -> PhantomSummary:
    """Write raw/A, raw/B, records.csv, masks.coco.json and truth.json into `out`.

    The same seed gives the same bytes. Half of the `patients` belong to each center. Raises
    SonoError if `out` is not a new or empty folder, or a number is odd.
    """
    _check(out, patients, frames_per_patient, seed)
    with new_folder(out) as new, progress("phantom", patients * frames_per_patient) as advance:
        manifest = Manifest(new)
        for center in CENTERS:
            of_center = [
                make_patient(CENTERS.index(center) + 2 * n, center, seed)
                for n in range(patients // 2)
            ]
            shots = _examine(manifest, of_center, frames_per_patient, seed, advance)
            plant_defects(
                manifest, of_center, shots, np.random.default_rng([seed, 3, CENTERS.index(center)])
            )
        close(manifest, seed)
    ordinary = [facts for facts in manifest.files.values() if not facts["planted"]]
    return PhantomSummary(
        out,
        patients,
        len(manifest.files),
        len(manifest.files) - len(ordinary),
        sum(facts["frames"] for facts in ordinary),
        len(manifest.annotations),
        manifest.size_bytes,
    )


def deal_planes(count: int, rng: np.random.Generator) -> list[str]:
    """`count` planes: all 24 repeatedly, each round in another order."""
    rounds = [rng.permutation(list(DRAWINGS)) for _ in range(-(-count // len(DRAWINGS)))]
    return [str(plane) for plane in np.concatenate(rounds)[:count]]


def _check(out: Path, patients: int, frames_per_patient: int, seed: int) -> None:
    refuse_used_folder(out)
    if not MIN_PATIENTS <= patients <= MAX_PATIENTS or patients % 2:
        raise SonoError(
            f"patients is {patients}; give an even number from {MIN_PATIENTS} to {MAX_PATIENTS}, "
            f"half for each center"
        )
    if not MIN_FRAMES <= frames_per_patient <= MAX_FRAMES:
        raise SonoError(
            f"frames per patient is {frames_per_patient}; give {MIN_FRAMES} to {MAX_FRAMES}"
        )
    if seed < 0:
        raise SonoError(f"seed is {seed}; give 0 or more")


def _examine(
    manifest: Manifest,
    patients: list[PhantomPatient],
    frames_per_patient: int,
    seed: int,
    advance: Advance,
) -> list[PhantomFrame]:
    """Scan the patients of one center."""
    planes = deal_planes(
        len(patients) * frames_per_patient, np.random.default_rng([seed, 4, patients[0].number])
    )
    shots = []
    for place, patient in enumerate(patients):
        suffix = FORMATS[place % len(FORMATS)]
        for number in range(frames_per_patient):
            plane = planes[place * frames_per_patient + number]
            exam = patient.exams[0 if plane in FIRST_TRIMESTER else 1]
            name = file_name(patient, exam, number + 1, suffix)
            # one file in a center has no row: the last of its first patient
            shot = PhantomFrame(
                patient, exam, plane, name, recorded=(place, number) != (0, frames_per_patient - 1)
            )
            _scan(manifest, shot, np.random.default_rng([seed, 5, patient.number, number]), number)
            shots.append(shot)
            advance()
    return shots


def _scan(manifest: Manifest, shot: PhantomFrame, rng: np.random.Generator, number: int) -> None:
    """Create, write and record one ordinary file.

    The third and fourth of a patient's DICOM files are cines.
    """
    is_cine = shot.name.endswith(".dcm") and number % 8 in (2, 3)
    exposure = expose(shot.patient, shot.exam, shot.plane, rng, CINE_FRAMES if is_cine else 1)
    export = _export(exposure, shot.patient, shot.exam, shot.name, number)
    facts = frame_facts(exposure.frames.shape[1:], exposure.probe, exposure.spacing_mm) | {
        "frames": len(exposure.frames),
        "structures": list(exposure.masks),
        "biometry_mm": exposure.biometry_mm,
        "burned": exposure.burned,
        "calipers": exposure.calipers,
    }
    burned = [Planted(line, "banner", "burned into the pixels") for line in exposure.burned]
    expected = Expected() if shot.recorded else Expected(("accepted",), ("no_record",))
    add_file(manifest, shot, export.content, expected, export.planted + burned, facts)
    if not is_cine:
        add_masks(
            manifest, shot.name, exposure.masks, (exposure.probe.height, exposure.probe.width)
        )


def _export(
    exposure: Exposure, patient: PhantomPatient, exam: Exam, name: str, number: int
) -> Export:
    frame = exposure.frames[0]
    if name.endswith(".dcm"):
        form = DicomForm(compressed=number % 4 in (1, 3))
        return dicom_file(exposure.frames, patient, exam, exposure.probe, exposure.spacing_mm, form)
    if name.endswith(".png"):
        return png_file(frame, patient, exam)
    # center B exports its JPEG in color, gray as they are
    stored = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if patient.center == "B" else frame
    return jpeg_file(np.asarray(stored, np.uint8), patient, exam)
