"""The files, spreadsheet rows, masks and ground truth of the phantom study written so far."""

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.atomic import write_bytes, write_text
from sono.curation.core.planes import PlaneTable
from sono.curation.phantom.files import Planted
from sono.curation.phantom.patients import COLUMNS, Exam, PhantomPatient, record_row
from sono.curation.phantom.physics import Probe


@dataclass(frozen=True)
class Expected:
    """What curation should report for a file: one of `statuses`, with one of `codes`.

    Without `codes` any code is accepted.
    """

    statuses: tuple[str, ...] = ("accepted",)
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhantomFrame:
    """A file of the study: its patient, its plane (a plane id, "other" or "") and its purpose."""

    patient: PhantomPatient
    exam: Exam
    plane: str
    name: str  # file name
    planted: str = ""  # "" for an ordinary frame
    recorded: bool = True  # has a row in the records table

    @property
    def path(self) -> str:
        """The file's place below the study's folder."""
        return f"raw/{self.patient.center}/{folder_name(self.patient, self.exam)}/{self.name}"


@dataclass
class Manifest:
    """Collects the rows; `close` writes the tables."""

    out: Path
    rows: list[dict[str, str]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    private: list[dict[str, str]] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int = 0


def folder_name(patient: PhantomPatient, exam: Exam) -> str:
    """Center A stores files by month, center B by patient."""
    return (
        f"{exam.day:%Y-%m}" if patient.center == "A" else f"{patient.mrn} {patient.surname.upper()}"
    )


def file_name(patient: PhantomPatient, exam: Exam, number: int, suffix: str) -> str:
    """The file name of a hospital's export, with the patient's name or number in it."""
    if patient.center == "A":
        person = f"{patient.surname}_{patient.forename}_{patient.mrn}"
        return f"{person}_{exam.day:%Y%m%d}_{number:03d}{suffix}"
    return f"IMG_{patient.mrn}_{number:04d}{suffix}"


def add_file(
    manifest: Manifest,
    shot: PhantomFrame,
    content: bytes,
    expected: Expected,
    planted: list[Planted],
    facts: dict[str, Any],
) -> None:
    """Write a file and record its truth, its row and every private string.

    `facts` are more keys of the truth.
    """
    write_bytes(manifest.out / shot.path, content)
    manifest.size_bytes += len(content)
    record = facts.get("biometry_mm", {})
    if shot.recorded:
        manifest.rows.append(record_row(shot.patient, shot.exam, shot.plane, shot.name, record))
    manifest.files[shot.path] = {
        "patient": shot.patient.id,
        "center": shot.patient.center,
        "plane": shot.plane,
        "ga_days": shot.exam.ga_days,
        "planted": shot.planted,
        "recorded": shot.recorded,
        "expected": asdict(expected),
        **facts,
    }
    for item in (*planted, *_name_strings(shot)):
        manifest.private.append({"file": shot.path, **asdict(item)})


def frame_facts(frame_shape: tuple[int, ...], probe: Probe, spacing_mm: float) -> dict[str, Any]:
    """Size, sector and spacing of an intact frame for the truth file, in source pixels."""
    border = np.array(probe.polygon())
    low, high = np.floor(border.min(axis=0)), np.ceil(border.max(axis=0)) + 1
    box = [max(low[0], 0), max(low[1], 0), min(high[0], probe.width), min(high[1], probe.height)]
    return {
        "height": int(frame_shape[0]),
        "width": int(frame_shape[1]),
        "spacing_mm": round(spacing_mm, 6),
        "sector_box": [int(value) for value in box],  # x0, y0, x1, y1, half-open
        "sector_polygon": probe.polygon(),
        "sector": {
            "apex_x": probe.apex_x,
            "apex_y": probe.apex_y,
            "half_angle_deg": probe.half_angle_deg,
            "radius_min": probe.radius_min,
            "radius_max": probe.radius_max,
        },
    }


def add_masks(
    manifest: Manifest, name: str, masks: dict[str, NDArray[np.bool_]], shape: tuple[int, int]
) -> None:
    """Record structure masks [H, W] of the file `name` as COCO annotations."""
    from pycocotools import mask as coco

    image_id = len(manifest.images) + 1
    manifest.images.append(
        {"id": image_id, "file_name": name, "height": shape[0], "width": shape[1]}
    )
    for structure, mask in masks.items():
        run_lengths = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        manifest.annotations.append(
            {
                "id": len(manifest.annotations) + 1,
                "image_id": image_id,
                "category_id": PlaneTable().structures.index(structure) + 1,
                "segmentation": {
                    "size": list(shape),
                    "counts": run_lengths["counts"].decode("ascii"),
                },
                "area": int(mask.sum()),
                "bbox": [float(value) for value in coco.toBbox(run_lengths)],
                "iscrowd": 1,  # COCO's mark of run lengths
            }
        )


def close(manifest: Manifest, seed: int) -> None:
    """Write records.csv, masks.coco.json and truth.json."""
    _write_records(manifest, ";" if seed % 2 == 0 else ",")
    categories = [
        {"id": number, "name": name} for number, name in enumerate(PlaneTable().structures, 1)
    ]
    _write_json(
        manifest.out / "masks.coco.json",
        {"images": manifest.images, "annotations": manifest.annotations, "categories": categories},
    )
    planted = {path: facts for path, facts in manifest.files.items() if facts["planted"]}
    truth = {
        "seed": seed,
        "files": manifest.files,
        "duplicates": manifest.duplicates,
        "broken": [
            path for path, facts in planted.items() if facts["planted"].startswith("broken")
        ],
        "special": {path: facts["planted"] for path, facts in planted.items()},
        "burned_text": {
            path: facts["burned"] for path, facts in manifest.files.items() if facts.get("burned")
        },
        "private": manifest.private,
        "private_values": sorted({item["value"] for item in manifest.private}),
    }
    _write_json(manifest.out / "truth.json", truth)


def _name_strings(shot: PhantomFrame) -> list[Planted]:
    """The private strings in the file's name and folder."""
    where = {"file name": shot.name, "folder name": folder_name(shot.patient, shot.exam)}
    private = {
        "id": shot.patient.mrn,
        "name": shot.patient.surname,
        "date": f"{shot.exam.day:%Y%m%d}",
    }
    return [
        Planted(value, kind, place)
        for place, text in where.items()
        for kind, value in private.items()
        if value.lower() in text.lower()
    ]


def _write_records(manifest: Manifest, delimiter: str) -> None:
    """A CSV with byte order mark and Windows line ends, as spreadsheets export it."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, delimiter=delimiter, lineterminator="\r\n", restval="")
    writer.writeheader()
    writer.writerows(manifest.rows)
    write_text(manifest.out / "records.csv", "\ufeff" + buffer.getvalue())
    for kind, column in (
        ("name", "Name"),
        ("id", "MRN"),
        ("date", "DOB"),
        ("date", "Exam date"),
        ("date", "LMP"),
    ):
        for value in sorted({row[column] for row in manifest.rows if row[column]}):
            manifest.private.append(
                {
                    "file": "records.csv",
                    "value": value,
                    "kind": kind,
                    "location": f"column {column}",
                }
            )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
