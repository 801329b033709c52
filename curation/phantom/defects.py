"""The planted defects of a center: copies, broken files, and frames that no study should keep."""

from dataclasses import asdict, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.phantom.burned_in_overlays import burn_inside, doppler
from sono.curation.phantom.files import DicomForm, Export, Planted, dicom_file, jpeg_file, png_file
from sono.curation.phantom.frames import Exposure, burn_banner, expose
from sono.curation.phantom.manifest import (
    Expected,
    Manifest,
    PhantomFrame,
    add_file,
    add_masks,
    file_name,
    frame_facts,
)
from sono.curation.phantom.patients import PhantomPatient
from sono.curation.phantom.physics import sector_mask

EXACT = Expected(("accepted", "rejected"), ("exact_duplicate",))  # one of the group is kept
NEAR = Expected(("accepted",), ("near_duplicate",))
CONFLICT = Expected(("quarantined",), ("duplicate_conflict",))


def plant_defects(
    manifest: Manifest,
    patients: list[PhantomPatient],
    shots: list[PhantomFrame],
    rng: np.random.Generator,
) -> None:
    """Add every defect to the study of one center.

    `shots` are its ordinary files, `patients` at least two.
    """
    pictures = [shot for shot in shots if not shot.name.endswith(".dcm")]
    quarter = max(1, len(pictures) // 4)
    _copy(manifest, pictures[0], 901)
    _copy(manifest, pictures[2 * quarter % len(pictures)], 902)
    _nearly_copy(manifest, pictures[quarter % len(pictures)], 903, "re-encoded")
    _nearly_copy(manifest, pictures[3 * quarter % len(pictures)], 904, "rescaled")
    _cross_patients(manifest, patients[0], patients[1], rng)
    owner = patients[-1]
    exposure = expose(owner, owner.exams[1], "transthalamic", rng)
    _break_files(manifest, owner, exposure)
    _spoil_frames(manifest, owner, exposure)
    _special_dicom(manifest, owner, rng)


def _copy(manifest: Manifest, shot: PhantomFrame, number: int) -> None:
    """The same bytes under another name."""
    twin = replace(shot, name=_renamed(shot, number), planted="exact duplicate")
    content = (manifest.out / shot.path).read_bytes()
    add_file(
        manifest, twin, content, EXACT, _same_secrets(manifest, shot), _same_facts(manifest, shot)
    )
    said = {row["File"]: row["Findings"] for row in manifest.rows}
    if shot.recorded:
        manifest.rows[-1]["Findings"] = said[shot.name]  # one picture shows one thing
    manifest.files[shot.path]["expected"] = asdict(EXACT)  # either may be the one that is kept
    _pair(manifest, "exact", shot, twin, EXACT)


def _nearly_copy(manifest: Manifest, shot: PhantomFrame, number: int, how: str) -> None:
    """The same picture as a low-quality JPEG, or at three quarters size with another gain."""
    stored = np.frombuffer((manifest.out / shot.path).read_bytes(), np.uint8)
    frame = np.asarray(cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE), np.uint8)
    facts, quality = _same_facts(manifest, shot), 70
    if how == "rescaled":
        small = cv2.resize(frame, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA).astype(
            np.float32
        )
        frame = np.clip(small * 1.12, 0, 255).astype(np.uint8)
        facts, quality = (
            {"height": frame.shape[0], "width": frame.shape[1], "burned": facts["burned"]},
            88,
        )
    content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    twin = replace(shot, name=_renamed(shot, number, ".jpg"), planted=f"near duplicate, {how}")
    add_file(manifest, twin, content, NEAR, _burned(facts["burned"]), facts)
    _pair(manifest, "near", shot, twin, NEAR)


def _cross_patients(
    manifest: Manifest, first: PhantomPatient, second: PhantomPatient, rng: np.random.Generator
) -> None:
    """One file exported under two patients."""
    exposure = expose(first, first.exams[1], "gallbladder", rng)
    export = jpeg_file(exposure.frames[0], first, first.exams[1])
    shots = []
    for patient in (first, second):
        exam = patient.exams[1]
        shots.append(
            PhantomFrame(
                patient,
                exam,
                "gallbladder",
                file_name(patient, exam, 910, ".jpg"),
                "duplicate of two patients",
            )
        )
        planted = export.planted + _burned(exposure.burned)
        add_file(manifest, shots[-1], export.content, CONFLICT, planted, _facts(exposure))
    _pair(manifest, "exact", shots[0], shots[1], CONFLICT)


def _break_files(manifest: Manifest, patient: PhantomPatient, exposure: Exposure) -> None:
    """Five files that cannot be read, each for a different reason."""
    exam, frame = patient.exams[1], exposure.frames[0]
    png, jpeg = png_file(frame, patient, exam), jpeg_file(frame, patient, exam)
    dicom = dicom_file(
        exposure.frames, patient, exam, exposure.probe, exposure.spacing_mm, DicomForm()
    )
    cut = Expected(("error",), ("truncated", "corrupt", "frame_corrupt"))
    broken = (
        (
            ".png",
            "broken: truncated PNG",
            Export(png.content[: len(png.content) * 3 // 5], png.planted),
            cut,
        ),
        (
            ".jpg",
            "broken: truncated JPEG",
            Export(jpeg.content[: len(jpeg.content) // 2], jpeg.planted),
            cut,
        ),
        (
            ".dcm",
            "broken: truncated DICOM",
            Export(dicom.content[: len(dicom.content) * 2 // 3], dicom.planted),
            cut,
        ),
        (".jpg", "broken: empty", Export(b""), Expected(("error",), ("empty_file",))),
        (
            ".png",
            "broken: text named .png",
            _text_file(patient),
            Expected(("rejected", "error"), ("not_an_image",)),
        ),
    )
    for number, (suffix, planted, export, expected) in enumerate(broken, 920):
        shot = PhantomFrame(
            patient, exam, "transthalamic", file_name(patient, exam, number, suffix), planted
        )
        add_file(manifest, shot, export.content, expected, export.planted, {})


def _spoil_frames(manifest: Manifest, patient: PhantomPatient, exposure: Exposure) -> None:
    """Frames that are black, blurred, overexposed or have a name on tissue, and a photograph."""
    exam, probe = patient.exams[1], exposure.probe
    clean = np.where(sector_mask(probe), exposure.frames[0], 0).astype(np.uint8)
    blurred = np.where(sector_mask(probe), cv2.GaussianBlur(clean, (0, 0), 11), 0).astype(np.uint8)
    bright = np.where(
        sector_mask(probe), np.clip(clean.astype(np.float32) * 3 + 130, 0, 255), 0
    ).astype(np.uint8)
    spoiled = (
        ("black frame", np.zeros_like(clean), Expected(("rejected",), ("blank", "too_dark"))),
        ("blurred frame", blurred, Expected(("rejected",), ("blurred",))),
        ("overexposed frame", bright, Expected(("rejected",), ("too_bright",))),
        (
            "name inside the sector",
            clean.copy(),
            Expected(("quarantined", "accepted"), ("text_in_sector", "overlay")),
        ),
    )
    for number, (planted, frame, expected) in enumerate(spoiled, 930):
        lines = [f"{patient.surname} {patient.forename}", patient.mrn, f"{exam.day:%d.%m.%Y}"]
        if planted.startswith("name"):
            burn_inside(frame, lines, probe)
        if planted != "black frame":
            burn_banner(frame, patient, exam, probe, exposure.spacing_mm)
        export = png_file(frame, patient, exam)
        facts = _facts(exposure) | {"burned": [] if planted == "black frame" else exposure.burned}
        facts |= {"burned_inside": lines} if planted.startswith("name") else {}
        shot = PhantomFrame(
            patient, exam, "transthalamic", file_name(patient, exam, number, ".png"), planted
        )
        add_file(
            manifest,
            shot,
            export.content,
            expected,
            export.planted + _burned(facts["burned"]),
            facts,
        )
    photo = PhantomFrame(
        patient, exam, "other", file_name(patient, exam, 940, ".jpg"), "photograph", recorded=False
    )
    content = cv2.imencode(".jpg", _photograph(patient.number), [cv2.IMWRITE_JPEG_QUALITY, 90])[
        1
    ].tobytes()
    anything = Expected(
        ("accepted", "quarantined", "rejected"),
        ("sector_unsure", "small_sector", "doppler", "no_record"),
    )
    add_file(manifest, photo, content, anything, [], {})


def _special_dicom(manifest: Manifest, patient: PhantomPatient, rng: np.random.Generator) -> None:
    """A color Doppler frame of the bladder and a frame stored inverted."""
    exam = patient.exams[1]
    exposure = expose(patient, exam, "bladder", rng)
    arteries = exposure.masks.get("umbilical arteries", sector_mask(exposure.probe))
    color = doppler(exposure.frames[0], arteries, exposure.probe)[None, ..., ::-1]
    _add_dicom(
        manifest, patient, exposure, color, ("bladder", "color Doppler", DicomForm(), ("doppler",))
    )
    exposure = expose(patient, exam, "femur", rng)
    _add_dicom(
        manifest,
        patient,
        exposure,
        exposure.frames,
        ("femur", "MONOCHROME1", DicomForm(inverted=True), ()),
    )


def _add_dicom(
    manifest: Manifest,
    patient: PhantomPatient,
    exposure: Exposure,
    frames: NDArray[np.uint8],
    what: tuple[str, str, DicomForm, tuple[str, ...]],
) -> None:
    """Store `frames` as DICOM; `what` is plane, purpose, form and the expected codes."""
    plane, planted, form, codes = what
    exam = patient.exams[1]
    export = dicom_file(
        np.ascontiguousarray(frames), patient, exam, exposure.probe, exposure.spacing_mm, form
    )
    number = 950 if codes else 951
    shot = PhantomFrame(patient, exam, plane, file_name(patient, exam, number, ".dcm"), planted)
    facts = _facts(exposure) | {
        "biometry_mm": exposure.biometry_mm,
        "structures": list(exposure.masks),
    }
    secrets = export.planted + _burned(exposure.burned)
    add_file(manifest, shot, export.content, Expected(("accepted",), codes), secrets, facts)
    add_masks(manifest, shot.name, exposure.masks, (exposure.probe.height, exposure.probe.width))


def _facts(exposure: Exposure) -> dict[str, object]:
    facts = frame_facts(exposure.frames.shape[1:], exposure.probe, exposure.spacing_mm)
    return facts | {"frames": 1, "burned": exposure.burned}


def _same_facts(manifest: Manifest, shot: PhantomFrame) -> dict[str, object]:
    own = ("patient", "center", "plane", "ga_days", "planted", "recorded", "expected")
    return {key: value for key, value in manifest.files[shot.path].items() if key not in own}


def _same_secrets(manifest: Manifest, shot: PhantomFrame) -> list[Planted]:
    """The private strings of a file, without those of its name."""
    return [
        Planted(item["value"], item["kind"], item["location"])
        for item in manifest.private
        if item["file"] == shot.path and not item["location"].endswith(" name")
    ]


def _burned(lines: object) -> list[Planted]:
    return (
        [Planted(line, "banner", "burned into the pixels") for line in lines]
        if isinstance(lines, list)
        else []
    )


def _renamed(shot: PhantomFrame, number: int, suffix: str = "") -> str:
    return file_name(shot.patient, shot.exam, number, suffix or f".{shot.name.rpartition('.')[2]}")


def _pair(
    manifest: Manifest, kind: str, first: PhantomFrame, second: PhantomFrame, expected: Expected
) -> None:
    manifest.duplicates.append(
        {
            "kind": kind,
            "files": [first.path, second.path],
            "same_patient": first.patient == second.patient,
            "statuses": list(expected.statuses),
            "codes": list(expected.codes),
        }
    )


def _text_file(patient: PhantomPatient) -> Export:
    line = f"Export failed for {patient.dicom_name} ({patient.mrn})\n"
    return Export(
        line.encode() * 40,
        [Planted(patient.dicom_name, "name", "text"), Planted(patient.mrn, "id", "text")],
    )


def _photograph(number: int) -> NDArray[np.uint8]:
    """A color picture of hills under a sky, 480 x 640: anything but ultrasound."""
    rng = np.random.default_rng(number)
    height = np.linspace(0, 1, 480, dtype=np.float32)[:, None, None]
    picture = (1 - height) * np.array([235, 170, 110], np.float32) + height * np.array(
        [225, 215, 200], np.float32
    )
    picture = np.repeat(picture, 640, axis=1)
    x = np.arange(640)
    for layer, green in enumerate((150, 120, 85)):
        ridge = 230 + 70 * layer + 35 * np.sin(x / rng.uniform(50, 110) + rng.uniform(0, 6))
        below = np.arange(480)[:, None] > ridge[None]
        picture[below] = (60 - 10 * layer, green, 90 - 15 * layer)
    grain = cv2.GaussianBlur(rng.normal(0, 26, picture.shape).astype(np.float32), (0, 0), 1.2)
    return np.asarray(np.clip(picture + grain, 0, 255), np.uint8)
