"""Bring masks made elsewhere to the stored frames: match the names, check the size, crop, keep or refuse each."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sono.annotation.mask_files import ForeignMask, read_coco, read_mask_folder
from sono.annotation.masks import check_masks, mask_row, mask_table, replace_masks
from sono.curation.errors import SonoError, did_you_mean
from sono.curation.geometry import resampled_mask
from sono.curation.planes import PlaneTable
from sono.curation.privacy import check_privacy
from sono.curation.tables import MASK_STATES, MASKS
from sono.curation.workspace import Workspace

MAX_EXAMPLES = 5
SUFFIXES = ("_mask", "_seg", "_annotation")  # of mask files, in any case; HC18 says _Annotation

# Colours of Alzubaidi et al. 2023 (head planes): the outline's inside, the cavum and the ventricle.
HEAD_COLORS = {"red": "fetal head", "olive": "cavum septi pellucidi", "green": "lateral ventricle"}

REFUSALS = {
    "unmatched": "no frame has this name",
    "not_accepted": "the frame was not accepted by `sono qc`",
    "many_frames": "the name stands for several frames of one file; export with `sono masks export` and draw on those",
    "wrong_size": "the mask has another size than the frame",
    "empty": "the mask has no pixel inside the sector",
}


@dataclass(frozen=True)
class ImportSummary:
    """Masks kept by structure, refused by reason, and a few of those refused (for the terminal: they hold names)."""

    imported: int
    structures: dict[str, int]
    refused: dict[str, int]
    examples: tuple[str, ...]


class Refusal(NamedTuple):
    """Why one mask was not kept; `detail` may hold a name and is never stored."""

    reason: str
    detail: str


def import_masks(
    workspace: Workspace,
    path: Path,
    structure: str | None = None,
    colors: Mapping[str, str] | None = None,
    state: str = "accepted",
) -> ImportSummary:
    """Import a COCO JSON, or a folder of mask PNGs of one `structure` or colour-coded by `colors` (name or #rrggbb).

    Masks come in source pixels and are cropped like their frame; those named by image id are in stored pixels, as
    `export_coco` writes them.
    A mask that fits no frame is counted and left out; a damaged file is a SonoError and nothing is imported.
    """
    if state not in MASK_STATES:
        raise SonoError(f"unknown mask state '{state}'{did_you_mean(state, MASK_STATES)}")
    images, planes = workspace.images(), workspace.planes()
    frames = FrameFinder(images, source_stems(workspace))
    rows: list[dict[str, object]] = []
    refusals: list[Refusal] = []
    for mask in _read(path, structure, colors, planes):
        for outcome in _fit(mask, frames, state):
            if isinstance(outcome, Refusal):
                refusals.append(outcome)
            else:
                rows.append(outcome)
    if not rows and not frames.stems and refusals:
        raise SonoError(
            f"{workspace.vault}: not here, so masks match by image id alone, and none of these {len(refusals)} "
            "is named by one; put the vault back beside the study"
        )
    new = mask_table(rows)
    with workspace.lock():
        check_masks(new, images)
        workspace.write(MASKS, replace_masks(workspace.masks(), new))
        check_privacy(workspace)
    return _summary(new, refusals)


def parse_colors(options: Sequence[str]) -> dict[str, str]:
    """Colours to structures from options such as "red=fetal head"."""
    pairs = [option.partition("=") for option in options]
    for color, sign, structure in pairs:
        if not (color.strip() and sign and structure.strip()):
            raise SonoError(f"--color '{color}{sign}{structure}': write COLOR=STRUCTURE, as in \"red=fetal head\"")
    return {color.strip(): structure.strip() for color, _, structure in pairs}


def source_stems(workspace: Workspace) -> dict[str, list[tuple[str, int]]]:
    """(source_id, frame) of every file by its stem, from the vault; empty where the vault is not here."""
    path = workspace.vault / "sources.parquet"
    if not path.exists():
        return {}
    try:
        columns = pq.read_table(path, columns=["source_id", "frame", "path"], partitioning=None).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise SonoError(f"{path}: not a readable Parquet table; run `sono qc` again") from error
    stems: dict[str, list[tuple[str, int]]] = {}
    for source_id, frame, raw in zip(columns["source_id"], columns["frame"], columns["path"], strict=True):
        stems.setdefault(Path(os.fsdecode(raw)).stem, []).append((source_id, int(frame)))
    return stems


class FrameFinder:
    """The rows of the images table that a mask's stem names."""

    def __init__(self, images: pd.DataFrame, stems: Mapping[str, list[tuple[str, int]]]) -> None:
        self.stems = stems
        rows: list[Any] = images.to_dict("records")
        self.rows: dict[tuple[str, int], dict[str, Any]] = {(row["source_id"], int(row["frame"])): row for row in rows}
        self.stored: dict[str, dict[str, Any]] = {r["image_id"]: r for r in rows if r["status"] == "accepted"}

    def find(self, stem: str) -> list[dict[str, Any]]:
        """Rows named by `stem`, or by `stem` without the suffix of a mask file; accepted ones go first.

        `sono qc` may have seen the mask's own file, as a rejected row of the same stem.
        """
        names = dict.fromkeys((stem, _without_suffix(stem)))
        named = [[self.rows[key] for key in self.stems.get(name, []) if key in self.rows] for name in names]
        usable = [rows for rows in named if any(row["status"] == "accepted" for row in rows)]
        return next(iter(usable or [rows for rows in named if rows]), [])


def structure_name(label: str, planes: PlaneTable) -> str:
    """The structure of the plane table that `label` spells; SonoError with the nearest one."""
    known = {_plain(name): name for name in planes.structures}
    if _plain(label) not in known:
        raise SonoError(f"unknown structure '{label}'{did_you_mean(label, planes.structures)}")
    return known[_plain(label)]


def _read(
    path: Path, structure: str | None, colors: Mapping[str, str] | None, planes: PlaneTable
) -> Iterator[ForeignMask]:
    if not path.exists():
        raise SonoError(f"{path}: not found; give a COCO JSON or a folder of mask PNGs")
    named = structure_name(structure, planes) if structure else None
    palette = {color: structure_name(name, planes) for color, name in (colors or HEAD_COLORS).items()}
    if path.is_dir():
        yield from read_mask_folder(path, named, palette)
        return
    for mask in read_coco(path):
        try:
            yield mask._replace(structure=named or structure_name(mask.structure, planes))
        except SonoError as error:
            raise SonoError(f"{mask.place}: {error}") from error


def _fit(mask: ForeignMask, frames: FrameFinder, state: str) -> list[dict[str, object] | Refusal]:
    """One row a frame that `mask` belongs to, or one refusal."""
    by_id = frames.stored.get(mask.stem)
    if by_id is not None:
        if mask.size != (by_id["height"], by_id["width"]):
            return [Refusal("wrong_size", f"{mask.place}: {_sizes(mask, by_id['height'], by_id['width'])}")]
        return [_row(mask, by_id, mask.read(), state)]
    found = frames.find(mask.stem)
    accepted = [row for row in found if row["status"] == "accepted"]
    if not accepted:
        return [Refusal("not_accepted" if found else "unmatched", mask.place)]
    fitting = [row for row in accepted if mask.size in (_shown_size(row), _file_size(row))]
    if not fitting:
        size = _sizes(mask, accepted[0]["source_height"], accepted[0]["source_width"])
        return [Refusal("wrong_size", f"{mask.place}: {size}")]
    if len({row["source_id"] for row in fitting}) < len(fitting):
        return [Refusal("many_frames", mask.place)]
    whole = mask.read()
    return [_row(mask, row, crop(whole, row), state) for row in fitting]


def _shown_size(image: Mapping[str, Any]) -> tuple[int, int]:
    return int(image["source_height"]), int(image["source_width"])


def _file_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width in the file, which differ where its pixels were not square."""
    known = not pd.isna(image.get("file_height"))
    return (int(image["file_height"]), int(image["file_width"])) if known else _shown_size(image)


def crop(mask: NDArray[np.bool_], image: Mapping[str, Any]) -> NDArray[np.bool_]:
    """A mask of the whole frame, as shown or as in its file, in the stored pixels of `image`."""
    if mask.shape != _shown_size(image):
        mask = resampled_mask(mask, _shown_size(image))
    x0, y0, x1, y1 = (int(image[name]) for name in ("crop_x0", "crop_y0", "crop_x1", "crop_y1"))
    return mask[y0:y1, x0:x1]


def _row(
    mask: ForeignMask, image: Mapping[str, Any], pixels: NDArray[np.bool_], state: str
) -> dict[str, object] | Refusal:
    if not pixels.any():
        return Refusal("empty", mask.place)
    return mask_row(image, pixels, mask.structure, "import", state=state)


def _summary(new: pd.DataFrame, refusals: list[Refusal]) -> ImportSummary:
    counts = Counter(refusal.reason for refusal in refusals)
    examples = tuple(f"{refusal.detail}: {REFUSALS[refusal.reason]}" for refusal in refusals[:MAX_EXAMPLES])
    structures = {str(name): int(count) for name, count in new["structure"].value_counts().sort_index().items()}
    return ImportSummary(len(new), structures, dict(sorted(counts.items())), examples)


def _sizes(mask: ForeignMask, height: object, width: object) -> str:
    return f"{mask.size[0]} x {mask.size[1]} against {height} x {width} (height x width)"


def _without_suffix(stem: str) -> str:
    for suffix in SUFFIXES:
        if stem.lower().endswith(suffix):
            return stem[: -len(suffix)]
    return stem


def _plain(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter.isalnum())
