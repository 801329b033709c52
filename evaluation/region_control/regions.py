"""The regions of a study for region control: its masks, encoded in every condition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import sha256
from sono.curation.core.console import progress
from sono.curation.core.geometry import letterbox_mask
from sono.curation.core.planes import PlaneTable
from sono.evaluation.modes import box_mask, usable_masks
from sono.evaluation.outlines import StoredMask
from sono.evaluation.region_control.masks import (
    NONE,
    donors,
    draw,
    foreign_masks,
    jittered_box,
    moved_mask,
)
from sono.evaluation.region_control.measures import (
    CONDITIONS,
    TRAINING,
    CueConflict,
    RegionFeatures,
)
from sono.evaluation.zero_shot import (
    Features,
    Frames,
    class_features,
    masked_features,
    read_squares,
    text_features,
)
from sono.templates.loader import CaptionTemplates
from sono.training.data.frame_cache import mask_of, runs_of
from sono.training.model.mask_clip import MaskClip

CHANGES = ("own", "box", "jittered_box", "moved")  # conditions of the frame itself
COVERING = 0.99  # share of the frame from which a mask marks no region
PLACEHOLDER = "STRUCTURE"  # in the names of phrasings


@dataclass(frozen=True)
class RegionMask:
    """The masks of one structure in one frame, united, as run lengths in the model's square."""

    frame: int  # row of the frames
    structure: str
    mask_ids: tuple[str, ...]
    runs: NDArray[np.uint32]

    def pixels(self) -> Mask:
        """The mask [S, S]."""
        return mask_of(self.runs, round(float(self.runs.sum()) ** 0.5))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the mask."""
        return sha256(self.runs.tobytes())[:16]


@dataclass(frozen=True)
class RegionStudy:
    """What the regions of a study are encoded with.

    `clusters` [frames] are patients, `files` the frames' pixels.
    """

    model: MaskClip
    frames: pd.DataFrame
    files: Frames
    clusters: NDArray[np.int64]
    planes: PlaneTable
    templates: CaptionTemplates
    batch_size: int = 64
    seed: int = 0

    @property
    def side(self) -> int:
        """The model's square in pixels."""
        return self.model.image_size

    @cached_property
    def plane_index(self) -> NDArray[np.int64]:
        """The plane of each frame [frames] as an index into the plane table."""
        ids = {plane.id: number for number, plane in enumerate(self.planes.planes)}
        return np.array([ids[plane] for plane in self.frames["plane"]], np.int64)

    @cached_property
    def keys(self) -> list[str]:
        """The image ids, which seed the draws."""
        return [str(image_id) for image_id in self.frames["image_id"]]


@dataclass(frozen=True)
class Regions:
    """The masks that can be measured and their features.

    `left_out` counts the other masks by reason; `data` is None without masks.
    """

    masks: tuple[RegionMask, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    data: RegionFeatures | None = None
    conflict: CueConflict | None = None


def read_regions(masks: pd.DataFrame, frames: pd.DataFrame, side: int) -> Regions:
    """The accepted or edited masks of `frames` at `side` pixels, united by structure.

    Masks that cover the whole frame, and those without a pixel at that size, are left out. Raises
    SonoError if a mask has another size than its frame.
    """
    row_of = {str(image_id): row for row, image_id in enumerate(frames["image_id"])}
    found: list[RegionMask] = []
    left_out = {"covering the whole frame": 0, "too small for the model's square": 0}
    for (image_id, structure), masks_of_it in _by_structure(usable_masks(masks, frames)).items():
        mask = np.asarray(
            np.logical_or.reduce([stored.pixels() for stored in masks_of_it.values()])
        )
        square = letterbox_mask(mask, side)
        if mask.mean() >= COVERING:
            left_out["covering the whole frame"] += 1
        elif not square.any():
            left_out["too small for the model's square"] += 1
        else:
            found.append(
                RegionMask(row_of[image_id], structure, tuple(masks_of_it), runs_of(square))
            )
    found.sort(key=lambda region: (region.frame, region.structure))
    return Regions(tuple(found), {reason: count for reason, count in left_out.items() if count})


def encode_regions(study: RegionStudy, masks: pd.DataFrame, whole: Features) -> Regions:
    """`read_regions` with their features in every condition.

    `whole` [frames, d] are the features without a mask.
    """
    regions = read_regions(masks, study.frames, study.side)
    if not regions.masks:
        return regions
    frame = np.array([region.frame for region in regions.masks], np.int64)
    structures = sorted({*study.planes.structures, *(region.structure for region in regions.masks)})
    structure = np.array([structures.index(region.structure) for region in regions.masks], np.int64)
    plane = study.plane_index[frame]
    candidates = _candidates(study.planes, structures, plane, structure)
    features = _encode_masks(study, regions.masks, whole) | {"all_one": whole[frame]}
    foreign = foreign_masks(study.plane_index, structure, candidates, study.keys, study.seed)
    rows = np.unique(frame)
    empty, misled = _encode_frames(study, regions.masks, rows, foreign[rows])
    features["empty"] = empty[np.searchsorted(rows, frame)]
    data = RegionFeatures(
        tuple(structures),
        candidates,
        structure,
        plane,
        frame,
        study.clusters[frame],
        {condition: features[condition] for condition in CONDITIONS},
        region_texts(study.model, study.templates, structures),
    )
    return Regions(
        regions.masks, regions.left_out, data, _conflict(study, rows, foreign[rows], plane, misled)
    )


def region_texts(
    model: MaskClip, templates: CaptionTemplates, structures: Sequence[str]
) -> dict[str, Features]:
    """Unit features [structures, d] by phrasing.

    TRAINING is the mean of the training prompts; each unseen phrasing is separate.
    """
    trained = class_features(model, [templates.render_region_prompts(name) for name in structures])
    texts = [templates.render_unseen_region_prompts(name) for name in structures]
    return {TRAINING: trained} | {
        title: text_features(model, [own[number] for own in texts])
        for number, title in enumerate(templates.render_unseen_region_prompts(PLACEHOLDER))
    }


def shown_structures(planes: PlaneTable, structures: Sequence[str]) -> NDArray[np.bool_]:
    """Which `structures` each plane of the table shows [planes, structures]."""
    return np.array(
        [[name in plane.structures for name in structures] for plane in planes.planes], np.bool_
    )


def _by_structure(masks: pd.DataFrame) -> dict[tuple[str, str], dict[str, StoredMask]]:
    """The masks of each image and structure, by mask id."""
    found: dict[tuple[str, str], dict[str, StoredMask]] = {}
    names = ("image_id", "structure", "mask_id", "counts", "height", "width")
    columns = (
        masks.sort_values(["image_id", "structure", "mask_id"])[name].tolist() for name in names
    )
    for image_id, structure, mask_id, *stored in zip(*columns, strict=True):
        found.setdefault((image_id, structure), {})[mask_id] = StoredMask(*stored)
    return found


def _candidates(
    planes: PlaneTable,
    structures: list[str],
    plane: NDArray[np.int64],
    structure: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which structures [planes, structures] compete in a plane.

    They are the structures of the plane table, and those with masks in the plane.
    """
    table = shown_structures(planes, structures)
    table[plane, structure] = True
    return table


def _encode_masks(
    study: RegionStudy, masks: Sequence[RegionMask], whole: Features
) -> dict[str, Features]:
    """Features [masks, d] of the conditions that differ by mask.

    Rows are NaN if a mask does not exist in the condition.
    """
    donor = donors(study.frames["plane"].tolist(), study.clusters, study.keys, study.seed)
    names = (*CHANGES, "place_and_shape", "gray_frame")
    table = {name: np.full((len(masks), whole.shape[1]), np.nan, np.float32) for name in names}
    gray = 0.0
    with progress("encoding regions", len(masks)) as advance:
        for rows in _batches(len(masks), study.batch_size):
            frames = np.array([masks[row].frame for row in rows], np.int64)
            own = [masks[row].pixels() for row in rows]
            squares, others = _read_pairs(study, frames, donor[frames])
            for name in CHANGES:
                made = [
                    _changed(study, name, masks[row], mask)
                    for row, mask in zip(rows, own, strict=True)
                ]
                _encode_into(study.model, table[name], rows, squares, made)
            given = [
                None if donor[frame] == NONE else mask
                for frame, mask in zip(frames, own, strict=True)
            ]
            _encode_into(study.model, table["place_and_shape"], rows, others, given)
            gray += float(squares.mean()) * len(rows) / len(masks)
            advance(len(rows))
    _encode_gray_frame(study, masks, round(gray), table["gray_frame"])
    return table


def _encode_gray_frame(
    study: RegionStudy, masks: Sequence[RegionMask], gray: int, table: Features
) -> None:
    """Fill `table` [masks, d] with the features of the masks on a frame of one `gray`."""
    with progress("encoding regions without a frame", len(masks)) as advance:
        for rows in _batches(len(masks), study.batch_size):
            own = [masks[row].pixels() for row in rows]
            _encode_into(
                study.model,
                table,
                rows,
                np.full((len(own), study.side, study.side), gray, np.uint8),
                own,
            )
            advance(len(rows))


def _encode_frames(
    study: RegionStudy,
    masks: Sequence[RegionMask],
    frames: NDArray[np.int64],
    foreign: NDArray[np.int64],
) -> tuple[Features, Features]:
    """Features [n, d] of `frames` [n] under an empty mask, and under the masks `foreign` [n].

    Rows are NaN for NONE.
    """
    nothing = np.zeros((study.side, study.side), np.bool_)
    found: list[tuple[Features, Features]] = []
    with progress("encoding masks of other planes", len(frames)) as advance:
        for part in _batches(len(frames), study.batch_size):
            squares = read_squares(study.files, frames[part].tolist(), study.side)
            empty = masked_features(study.model, squares, np.stack([nothing] * len(part)))
            misled = np.full_like(empty, np.nan)
            given = [None if row == NONE else masks[row].pixels() for row in foreign[part]]
            _encode_into(study.model, misled, np.arange(len(part)), squares, given)
            found.append((empty, misled))
            advance(len(part))
    return np.concatenate([empty for empty, _ in found]), np.concatenate(
        [misled for _, misled in found]
    )


def _conflict(
    study: RegionStudy,
    rows: NDArray[np.int64],
    foreign: NDArray[np.int64],
    plane: NDArray[np.int64],
    misled: Features,
) -> CueConflict | None:
    """The frames `rows` [n] under the masks `foreign` [n] against all planes present.

    The result is None if no frame has such a mask.
    """
    present = np.unique(study.plane_index)
    shown = foreign != NONE
    if not shown.any():
        return None
    names = [study.planes.planes[index].name for index in present]
    return CueConflict(
        misled[shown],
        np.searchsorted(present, study.plane_index[rows[shown]]),
        np.searchsorted(present, plane[foreign[shown]]),
        study.clusters[rows[shown]],
        class_features(study.model, [study.templates.render_prompts(name) for name in names]),
    )


def _changed(study: RegionStudy, name: str, region: RegionMask, mask: Mask) -> Mask | None:
    """The `mask` [S, S] of a region as the condition `name` has it."""
    if name == "own":
        return mask
    if name == "box":
        return box_mask(mask)
    generator = draw(study.seed, name, study.keys[region.frame], region.structure)
    return jittered_box(mask, generator) if name == "jittered_box" else moved_mask(mask, generator)


def _read_pairs(
    study: RegionStudy, frames: NDArray[np.int64], donor: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The squares [n, S, S] of `frames` [n] and of their donors, each read once.

    A frame without a donor (NONE) is its own.
    """
    wanted = np.concatenate([frames, np.where(donor == NONE, frames, donor)])
    rows, places = np.unique(wanted, return_inverse=True)
    squares = read_squares(study.files, rows.tolist(), study.side)[places]
    return squares[: len(frames)], squares[len(frames) :]


def _encode_into(
    model: MaskClip,
    table: Features,
    rows: NDArray[np.int64],
    squares: NDArray[np.uint8],
    masks: Sequence[Mask | None],
) -> None:
    """Encode the `squares` [n, S, S] that have a mask into the `rows` [n] of `table`."""
    shown = [place for place, mask in enumerate(masks) if mask is not None]
    if shown:
        given = np.stack([mask for mask in masks if mask is not None])
        table[rows[shown]] = masked_features(model, squares[shown], given)


def _batches(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
