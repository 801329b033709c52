"""Make the pairs of a training run from the tables of a study."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.masks import check_masks
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS, MASKS, rows_of
from sono.curation.core.workspace import Workspace
from sono.templates.loader import CaptionTemplates
from sono.training.data.frame_cache import packed_frames, packed_masks
from sono.training.data.pairs import Example, MaskedRegion, PairSet, Phrased
from sono.training.data.sampling import mask_grade
from sono.training.objectives.attributes import caption_attributes, plane_path


def load_pairs(
    workspace: Workspace,
    images: pd.DataFrame,
    mask_states: Sequence[str],
    templates: CaptionTemplates,
    side: int,
) -> PairSet:
    """The stored frames of `images` with their captions and masks, letterboxed to `side`.

    They come from the frame cache. `templates` phrase planes and structures. Frames without a
    caption are left out.
    """
    images, tables = _read_tables(workspace, images, mask_states, templates, side)
    frames = packed_frames(workspace, images["file"].tolist(), side)
    return PairSet(frames, tuple(_example(image, tables) for image in rows_of(images)))


class _Tables(NamedTuple):
    """The tables from which examples are made."""

    planes: PlaneTable
    whole: dict[str, list[dict[str, Any]]]  # captions by image, that of the main set first
    regional: dict[str, list[dict[str, Any]]]  # captions by mask
    masks: dict[str, list[dict[str, Any]]]  # by image
    states: frozenset[str]  # of the masks that may be a region
    runs: dict[str, NDArray[np.uint32]]  # by mask
    prompts: dict[str, tuple[str, ...]]  # by plane
    region_prompts: dict[str, tuple[str, ...]]  # by structure


def _read_tables(
    workspace: Workspace,
    images: pd.DataFrame,
    mask_states: Sequence[str],
    templates: CaptionTemplates,
    side: int,
) -> tuple[pd.DataFrame, _Tables]:
    """The images that have a caption, and the tables on them."""
    captions, masks = workspace.captions(), workspace.masks()
    # the rows of the model's own set first
    captions = captions.iloc[
        captions["template"].ne(templates.id).to_numpy().argsort(kind="stable")
    ]
    whole: dict[str, list[dict[str, Any]]] = {}
    regional: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(captions):
        found, key = (
            (whole, row["image_id"]) if row["level"] == "global" else (regional, row["mask_id"])
        )
        found.setdefault(key, []).append(row)
    lost = set(regional) - set(masks["mask_id"])
    if lost:
        raise SonoError(
            f"{workspace.path(CAPTIONS)}: {len(lost)} of {len(regional)} region captions belong to "
            f"masks that are not in {workspace.path(MASKS).name}; run `sono captions build` again, "
            "or restore that file"
        )
    blank = captions["text"].str.strip().eq("")
    if blank.any():
        raise SonoError(
            f"{workspace.path(CAPTIONS)}: {int(blank.sum())} of {len(captions)} captions are "
            "empty; run `sono captions build` again"
        )
    images = images[images["image_id"].isin(set(whole))]
    by_image: dict[str, list[dict[str, Any]]] = {}
    for mask in rows_of(
        masks[masks["image_id"].isin(set(images["image_id"])) & (masks["state"] != "rejected")]
    ):
        by_image.setdefault(mask["image_id"], []).append(mask)
    captioned = masks[masks["mask_id"].isin(set(regional)) & (masks["state"] != "rejected")]
    every = workspace.images(["image_id", "height", "width"])
    check_masks(captioned[captioned["image_id"].isin(every["image_id"])], every)
    runs = packed_masks(workspace, list(rows_of(captioned)), side)
    planes = workspace.planes()
    prompts = {plane.id: tuple(templates.render_prompts(plane.name)) for plane in planes.planes}
    structures = {
        name: tuple(templates.render_region_prompts(name))
        for name in sorted(set(captioned["structure"]))
    }
    states = frozenset(mask_states)
    return images, _Tables(planes, whole, regional, by_image, states, runs, prompts, structures)


def _example(image: dict[str, Any], tables: _Tables) -> Example:
    captions, masks = tables.whole[image["image_id"]], tables.masks.get(image["image_id"], [])
    named = {mask["structure"] for mask in masks}
    if image["structures"] is not None:
        named.update(image["structures"])
    own, *more = _phrased(captions, image, sorted(named), tables.planes)
    return Example(
        image["image_id"],
        image["plane"],
        own.caption,
        tables.prompts.get(image["plane"] or "", ()),
        tuple(
            region for mask in masks if (region := _masked_region(image, mask, tables)) is not None
        ),
        own.attributes,
        plane_path(image["plane"], tables.planes),
        image["center"],
        image["patient_id"],
        tuple(more),
    )


def _phrased(
    captions: list[dict[str, Any]], image: dict[str, Any], named: list[str], planes: PlaneTable
) -> list[Phrased]:
    """The captions (rows) of a frame or mask, each with its attributes."""
    return [
        Phrased(str(row["text"]), caption_attributes(row, image, named, planes)) for row in captions
    ]


def _masked_region(
    image: dict[str, Any], mask: dict[str, Any], tables: _Tables
) -> MaskedRegion | None:
    """The region of a mask (a row).

    The result is None if it has no caption, may not be used, or has no pixel at this size.
    """
    captions = tables.regional.get(mask["mask_id"])
    if captions is None or mask["state"] not in tables.states:
        return None
    runs = tables.runs[mask["mask_id"]]
    if len(runs) == 1:  # of zeros
        return None
    own, *more = _phrased(captions, image, [mask["structure"]], tables.planes)
    grade, structure = mask_grade(mask["source"], mask["state"]), str(mask["structure"])
    return MaskedRegion(
        runs,
        own.caption,
        own.attributes,
        grade,
        structure,
        tables.region_prompts[structure],
        tuple(more),
    )
