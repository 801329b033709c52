"""One file to its rows: read, look, measure, crop and store. Runs in a worker process; never raises for bad content."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.curation import quality
from sono.curation.duplicates import perceptual_hash
from sono.curation.pseudonyms import pseudonym
from sono.curation.quality import QualityConfig
from sono.curation.readers.sources import Frame, Limits, Source, read_source
from sono.curation.reasons import REASONS, status_of
from sono.curation.sector import Sector, crop_to_sector, find_sector
from sono.curation.storage import write_bytes
from sono.curation.stored import encode_png, frame_file, image_id_of

# Raise when a change of the code changes what a file gives, so that older results are measured again.
ANALYSIS_VERSION = 2

Row = dict[str, Any]


@dataclass(frozen=True)
class AnalysisTask:
    """What a worker needs beside the path."""

    root: bytes
    key: bytes
    frames: Path
    quarantine: Path
    quality: QualityConfig
    limits: Limits = field(default_factory=Limits)

    @property
    def settings_hash(self) -> str:
        """Results of equal hash are interchangeable."""
        values = [ANALYSIS_VERSION, self.quality.model_dump(), asdict(self.limits)]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def analyse(task: AnalysisTask, path: bytes) -> list[Row]:
    """The rows (columns of SOURCES, absent ones null) of one file; a file without frames gives one row."""
    before = _lstat(path)
    source = read_source(path, task.limits)
    base = {
        "path": path,
        "root": task.root,
        "file_size": before.st_size if before else None,
        "modified_ns": before.st_mtime_ns if before else None,
        "settings_hash": task.settings_hash,
        "raw_patient": source.header.patient,
        "raw_study": source.header.study,
        "private": list(source.header.private),
        "source_id": pseudonym(task.key, "source", path),
        "file_sha256": source.file_sha256,
        "machine": source.header.machine,
    }
    if not source.frames:
        return [{**base, "frame": 0, **_verdict(list(source.codes), source.message)}]
    return [{**base, **_frame_row(task, source, frame)} for frame in source.frames]


def crashed(task: AnalysisTask, path: bytes) -> list[Row]:
    """The row of a file whose decoder killed the worker."""
    base = {"path": path, "root": task.root, "settings_hash": task.settings_hash, "frame": 0, "private": []}
    return [{**base, "source_id": pseudonym(task.key, "source", path), **_verdict(["worker_died"], "")}]


def _frame_row(task: AnalysisTask, source: Source, frame: Frame) -> Row:
    codes = [*source.codes, *frame.codes]
    height, width = frame.gray.shape
    row: Row = {"frame": frame.index, "image_id": image_id_of(frame.gray)}
    row |= {"source_height": height, "source_width": width}
    row |= {"row_spacing_mm": frame.row_spacing_mm, "col_spacing_mm": frame.col_spacing_mm}
    row |= {"spacing_reason": frame.spacing_reason}
    flat = quality.flat_picture(frame.gray)
    if flat is not None or status_of(codes) in ("rejected", "error"):
        return row | _verdict([*codes, *([flat] if flat else [])], source.message)
    sector = find_sector(frame.gray)
    x0, y0, x1, y1 = sector.box
    stored = crop_to_sector(frame.gray, sector)
    rgb = None if frame.rgb is None else frame.rgb[y0:y1, x0:x1]
    measures = quality.measure(stored, sector, rgb)
    codes += quality.judge(measures, sector, task.quality)
    if sector.kind == "full" and frame.spacing_reason != "not_dicom":
        codes.append("border_unknown")
    row |= _sector_columns(sector) | measures | {"sector_fraction": float(sector.inside.mean())}
    row |= {"height": stored.shape[0], "width": stored.shape[1]}
    row |= {"perceptual_hash": perceptual_hash(frame.gray, sector)}
    row |= _verdict(codes, source.message)
    return row | {"file": _store(task, row["image_id"], row["status"], stored)}


def _sector_columns(sector: Sector) -> Row:
    x0, y0, x1, y1 = sector.box
    return {
        "crop_x0": x0,
        "crop_y0": y0,
        "crop_x1": x1,
        "crop_y1": y1,
        "sector_kind": sector.kind,
        "sector_confidence": sector.confidence,
        "sector_apex_x": None if sector.apex_x is None else sector.apex_x - x0,
        "sector_apex_y": None if sector.apex_y is None else sector.apex_y - y0,
        "sector_angle_left": sector.angle_left,
        "sector_angle_right": sector.angle_right,
        "sector_radius_min": sector.radius_min,
        "sector_radius_max": sector.radius_max,
    }


def _verdict(codes: list[str], message: str) -> Row:
    unique = list(dict.fromkeys(codes))
    status = status_of(unique)
    if not message and status != "accepted":
        message = next(REASONS[code].meaning for code in unique if REASONS[code].status == status)
    return {"status": status, "reasons": unique, "message": message or None}


def _store(task: AnalysisTask, image_id: str, status: str, stored: NDArray[np.uint8]) -> str | None:
    if status not in ("accepted", "quarantined"):
        return None
    name = frame_file(image_id)
    folder = task.frames if status == "accepted" else task.quarantine
    write_bytes(folder / Path(name).relative_to("frames"), encode_png(stored))
    return name


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return Path(os.fsdecode(path)).stat()
    except OSError:
        return None
