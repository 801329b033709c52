"""From one file to its rows: read, measure, crop and store; runs in a worker process.

Bad content never raises an exception.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.atomic import write_bytes
from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
from sono.curation.core.pseudonyms import pseudonym
from sono.curation.core.reasons import status_of, verdict_of
from sono.curation.core.tables import Row
from sono.curation.imaging import quality
from sono.curation.imaging.border_text import background_lines
from sono.curation.imaging.cine import Distinct, chosen
from sono.curation.imaging.display_modes import detect_modes
from sono.curation.imaging.echo_layers import background_tone
from sono.curation.imaging.judged_text import judge_text
from sono.curation.imaging.perceptual_hash import perceptual_hash
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector, crop_to_sector, find_sector
from sono.curation.imaging.transducer import sector_kind
from sono.curation.readers.dicom_regions import tissue_box
from sono.curation.readers.files import Frame, Limits, ReadResult, read_source, stamp_of

# Raise when a change of the code changes what a file gives, so that older results are measured
# again.
ANALYSIS_VERSION = 14


@dataclass(frozen=True)
class AnalysisTask:
    """What a worker needs besides the path."""

    root: bytes
    key: bytes = field(repr=False)  # a worker logs its arguments when it fails
    frames: Path
    quarantine: Path
    quality: QualityConfig
    limits: Limits = field(default_factory=Limits)
    store: bool = True  # keep the frames; False only measures
    force: bool = False  # try what is neither DICOM nor an image as DICOM without preamble

    @property
    def settings_hash(self) -> str:
        """Results with the same hash are interchangeable."""
        values = [ANALYSIS_VERSION, self.quality.model_dump(), asdict(self.limits), self.force]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def analyze(task: AnalysisTask, path: bytes) -> list[Row]:
    """The rows of one file (columns of SOURCES, missing ones null).

    A file without frames gives one row.
    """
    size, changed = stamp_of(path) or (None, None)
    source = read_source(path, task.limits, task.force)
    base = {
        "path": path,
        "root": task.root,
        "file_size": size,
        "modified_ns": changed,
        "settings_hash": task.settings_hash,
        "raw_patient": source.header.patient,
        "raw_study": source.header.study,
        "file_patient": source.header.patient,
        "file_study": source.header.study,
        "raw_exam_date": source.header.exam_date,
        "header_facts": json.dumps(dict(source.header.facts)),
        "private": list(source.header.private),
        "persons": list(source.header.persons),
        "source_id": pseudonym(task.key, "source", path),
        "file_sha256": source.file_sha256,
        "machine": source.header.machine,
    }
    if not source.frames:
        return [
            {
                **base,
                **source.report,
                "frame": 0,
                **asdict(verdict_of(source.codes, source.message)),
            }
        ]
    return [
        {**base, "source_frames": len(source.frames), **row} for row in _frame_rows(task, source)
    ]


def crashed(task: AnalysisTask, path: bytes) -> list[Row]:
    """The row of a file whose decoder killed the worker."""
    base = {
        "path": path,
        "root": task.root,
        "settings_hash": task.settings_hash,
        "frame": 0,
        "private": [],
    }
    return [
        {
            **base,
            "source_id": pseudonym(task.key, "source", path),
            **asdict(verdict_of(["worker_died"])),
        }
    ]


def is_mask_picture(path: bytes) -> bool:
    """Whether a file is a label picture of a few flat tones, which `analyze` rejects."""
    frames = read_source(path).frames
    return bool(frames) and quality.flat_picture(frames[0].gray) == "mask_image"


def _frame_rows(task: AnalysisTask, source: ReadResult) -> Iterator[Row]:
    """Yield one row for each frame that is analyzed.

    A frame that repeats the distinct frame before it is not measured.
    """
    cine = task.quality.cine
    distinct: Distinct | None = None
    for index in chosen(cine.frames, len(source.frames)):
        frame = source.frames[index]
        sound = cine.frames == "distinct" and not frame.codes
        if sound and distinct is not None and distinct.change(frame.gray) < cine.min_change:
            yield _repeat_row(source, frame, distinct.index)
            continue
        row = _frame_row(task, source, frame)
        if sound and len(source.frames) > 1:
            box = (
                (row["crop_x0"], row["crop_y0"], row["crop_x1"], row["crop_y1"])
                if "crop_x0" in row
                else None
            )
            distinct = Distinct.of(index, frame.gray, box)
        yield row


def _repeat_row(source: ReadResult, frame: Frame, stands_for_it: int) -> Row:
    """The row of a frame that is not measured; the frame it repeats has the texts of the file."""
    verdict = asdict(verdict_of([*source.codes, "cine_repeat"], source.message))
    return _picture_columns(frame) | {"repeats_frame": stands_for_it, "private": []} | verdict


def _frame_row(task: AnalysisTask, source: ReadResult, frame: Frame) -> Row:
    row = _picture_columns(frame)
    found = examine(frame, source.codes, task.quality)
    if found.sector is None or found.crop is None:
        return row | asdict(verdict_of(list(found.codes), source.message))
    row["printed"] = found.printed
    row["sector_kind"] = sector_kind(frame.gray, found.sector)
    row |= _sector_columns(found.sector) | found.measures
    row |= {"sector_fraction": found.sector.fraction}
    row |= {"height": found.crop.shape[0], "width": found.crop.shape[1]}
    row |= {"perceptual_hash": perceptual_hash(frame.gray, found.sector)}
    row |= asdict(verdict_of(list(found.codes), source.message))
    return row | {"file": _store(task, row["image_id"], row["status"], found.crop)}


@dataclass(frozen=True)
class Examined:
    """What the pixels of one frame show.

    `sector` and `crop` [h, w] (gray, zero outside the sector) are None where the frame is no
    ultrasound picture. `codes` are those of the file, the frame and the checks, in that order.
    """

    codes: tuple[str, ...]
    sector: Sector | None = None
    crop: NDArray[np.uint8] | None = None
    measures: dict[str, float] = field(default_factory=dict)
    printed: list[str] | None = None  # words read inside the sector; None where nothing reads them


def examine(frame: Frame, codes: Sequence[str], config: QualityConfig) -> Examined:
    """Find the sector of a frame, crop to it, measure and check it; `codes` are known already."""
    known = [*codes, *frame.codes]
    flat = quality.flat_picture(frame.gray)
    if flat is not None or status_of(known) in ("rejected", "error"):
        return Examined((*known, *([flat] if flat else [])))
    # colored letters are dark in luma
    ink = frame.gray if frame.rgb is None else frame.rgb.max(axis=2)
    sector, on_tissue, printed = judge_text(ink, _sector(frame), config)
    x0, y0, x1, y1 = sector.box
    crop = crop_to_sector(frame.gray, sector)
    rgb = None if frame.rgb is None else frame.rgb[y0:y1, x0:x1]
    measures = quality.measure(crop, sector, rgb)
    known += quality.judge(measures, sector, config)
    known += ["inset"] if sector.insets else []
    known += detect_modes(frame, sector.inside, config.views)
    if "rendering" in known and "doppler" in known:  # its colors are no flow
        known.remove("doppler")
    if sector.kind == "full" and frame.is_screen:
        known.append("border_unknown")
    return Examined((*known, *on_tissue), sector, crop, measures, printed)


def _sector(frame: Frame) -> Sector:
    """The sector of a frame.

    If the header names the only region of tissue, only that region is searched.
    """
    box = tissue_box(frame.regions, *frame.gray.shape)
    if box is None:
        return find_sector(frame.gray)
    x0, y0, x1, y1 = box
    found = find_sector(frame.gray[y0:y1, x0:x1])
    inside = np.zeros(frame.gray.shape, np.bool_)
    inside[y0:y1, x0:x1] = found.inside
    # they may begin outside the box
    inside &= ~background_lines(frame.gray, background_tone(frame.gray[::4, ::4]))
    left, top, right, bottom = found.box
    apex_x = None if found.apex_x is None else found.apex_x + x0
    apex_y = None if found.apex_y is None else found.apex_y + y0
    place = (left + x0, top + y0, right + x0, bottom + y0)
    insets = tuple((a + x0, b + y0, c + x0, d + y0) for a, b, c, d in found.insets)
    return replace(found, box=place, inside=inside, apex_x=apex_x, apex_y=apex_y, insets=insets)


def _picture_columns(frame: Frame) -> Row:
    return {
        "frame": frame.index,
        "frame_seconds": frame.seconds,
        "image_id": image_id_of(frame.gray),
        "source_height": frame.gray.shape[0],
        "source_width": frame.gray.shape[1],
        "file_height": frame.file_size[0] if frame.file_size else None,
        "file_width": frame.file_size[1] if frame.file_size else None,
        "row_spacing_mm": frame.row_spacing_mm,
        "col_spacing_mm": frame.col_spacing_mm,
        "spacing_reason": frame.spacing_reason,
    }


def _sector_columns(sector: Sector) -> Row:
    x0, y0, x1, y1 = sector.box
    return {
        "crop_x0": x0,
        "crop_y0": y0,
        "crop_x1": x1,
        "crop_y1": y1,
        "sector_confidence": sector.confidence,
        "sector_apex_x": None if sector.apex_x is None else sector.apex_x - x0,
        "sector_apex_y": None if sector.apex_y is None else sector.apex_y - y0,
        "sector_angle_left": sector.angle_left,
        "sector_angle_right": sector.angle_right,
        "sector_radius_min": sector.radius_min,
        "sector_radius_max": sector.radius_max,
    }


def _store(task: AnalysisTask, image_id: str, status: str, stored: NDArray[np.uint8]) -> str | None:
    if not task.store or status not in ("accepted", "quarantined"):
        return None
    name = frame_file(image_id, stored)
    folder = task.frames if status == "accepted" else task.quarantine
    # waiting for the disk would cost as much as all the rest: the stage does so once, and makes a
    # damaged frame again
    write_bytes(folder / Path(name).relative_to("frames"), encode_png(stored), durable=False)
    return name
