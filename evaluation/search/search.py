"""The stage `search`: the frames of a study nearest to words, a picture, or a region of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.atomic import real_path, write_bytes
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import picture_of
from sono.curation.core.tables import CAPTIONS, rows_of, usable_captions
from sono.curation.core.workspace import Workspace
from sono.curation.imaging.quality import QualityConfig
from sono.curation.privacy.gate import check_texts
from sono.curation.readers.files import list_sources
from sono.evaluation.prediction.reading import Reading, ReadTask, crashed, read_file, read_mask
from sono.evaluation.region_control.regions import RegionMask, read_regions
from sono.evaluation.search.index import Stored, best_rows, index_place, stored_features
from sono.evaluation.search.sheet import Query, search_sheet
from sono.evaluation.search.view import Hit, SearchResult
from sono.evaluation.selection import Seen, Target, leaking, resolve_target
from sono.evaluation.statistics.metrics import unit
from sono.evaluation.zero_shot import (
    Features,
    best_device,
    masked_features,
    mode_features,
    read_squares,
    text_features,
    warn_of_cut_texts,
)
from sono.templates.loader import load_templates
from sono.training.data.frame_cache import kept_frames
from sono.training.model.checkpoints import RunInfo, find_run, load_model
from sono.training.model.mask_clip import MaskClip

SHEET = "search.png"  # in the workspace
BATCH = 64


@dataclass(frozen=True)
class SearchOptions:
    """What to find: words, a picture, or both, and where.

    Words find a frame by the best of the complete frame and its masked structures, a picture by the
    complete frame, and a picture with a `mask` by the masked structures. With `masks` False, words
    use complete frames only. `out` is the PNG of the
    hits; None is `search.png` of the workspace.
    """

    text: str | None = None
    image: Path | None = None
    mask: Path | None = None
    masks: bool = True
    center: str | None = None
    run: str | None = None
    top: int = 20
    out: Path | None = None
    no_vault: bool = False


def search(
    workspace: Workspace, options: SearchOptions, engine: Engine | None = None
) -> SearchResult:
    """Find the frames nearest to a query, and draw them.

    The index of features is brought up to date first. Raises SonoError without a query, a run, or
    frames, and for a picture that cannot be read.
    """
    sheet = _check_options(workspace, options)
    images = workspace.accepted_images()
    center = resolve_target(images, Target(options.center)).center
    folder = find_run(workspace, options.run)
    mask = None if options.mask is None else read_mask(options.mask)
    model, info = load_model(folder)
    model = model.to(best_device()).eval()
    reading = None
    if options.image is not None:
        task = ReadTask(workspace.settings("qc", QualityConfig), model.image_size, mask, draw=True)
        reading = _read_query(options.image, task, engine or Engine())
    warn_of_cut_texts(model, [] if options.text is None else [options.text], "text")
    query = _query_features(model, options.text, reading)
    parts = searched_parts(workspace, model, folder, images, options)
    rows = np.ones(len(images), np.bool_)
    if center is not None:
        rows = (images["center"] == center).to_numpy(bool)
    found = nearest(parts, query, options.top, rows)
    hits = _hits(workspace, info, images, found)
    asked = Query(options.text or "", reading)
    texts = [asked.words, *(text for hit in hits for text in hit.texts)]
    check_texts(workspace, sheet.name, texts)
    write_bytes(sheet, search_sheet(workspace, asked, hits))
    return SearchResult(
        asked.words,
        info.name,
        int(rows.sum()),
        sum(part.regions is not None and int(rows[part.frames].sum()) for part in parts),
        sum(part.stored.encoded for part in parts),
        sum(part.stored.removed for part in parts),
        str(sheet),
        tuple(hits),
    )


def _check_options(workspace: Workspace, options: SearchOptions) -> Path:
    """The path of the sheet; raises SonoError for options that do not fit."""
    if options.text is None and options.image is None:
        raise SonoError(
            "nothing to search for; give words, as in `sono search 'a fetal femur'`, or --image"
        )
    if options.text is not None and not options.text.strip():
        raise SonoError("the words are empty; give some, as in `sono search 'a fetal femur'`")
    if options.mask is not None and not options.masks:
        raise SonoError("--mask and --no-masks exclude each other; give one of them")
    if options.mask is not None and options.image is None:
        raise SonoError("--mask is of a picture; give it with --image")
    if options.out is None:
        workspace.check_output(workspace.root / SHEET, b"\x89PNG")
        return workspace.root / SHEET
    given = [real_path(path) for path in (options.image, options.mask) if path is not None]
    if real_path(options.out) in given:
        raise SonoError("--out would replace a file that is read here; name a new file")
    if options.out.suffix.lower() != ".png":
        raise SonoError(f"{options.out}: the sheet is a PNG; name it .png")
    workspace.require_vault(options.no_vault)
    workspace.check_output(options.out, b"\x89PNG")
    return options.out


def _read_query(image: Path, task: ReadTask, engine: Engine) -> Reading:
    """The picture of the query, read in a worker as by `sono predict`."""
    paths = list_sources(image)
    if len(paths) != 1:
        raise SonoError(f"--image takes one picture, but this place has {len(paths)} files")
    read = partial(read_file, task)
    batches = run_batches(engine, read, paths, partial(crashed, task), "reading")
    reading = next(each for batch in batches for each in batch)
    if not len(reading.squares):
        # without the path, which may be private, as in `sono predict`
        raise SonoError(
            f"the picture of --image gives no frame: {reading.message} "
            f"({', '.join(reading.reasons)})"
        )
    return reading


def _query_features(model: MaskClip, text: str | None, reading: Reading | None) -> Features:
    """The query [d]: its product with unit features is the mean cosine with words and picture."""
    parts = [] if text is None else [text_features(model, [text])[0]]
    if reading is not None:
        features = masked_features(model, reading.squares, reading.masks)
        parts.append(unit(features.mean(axis=0)).astype(np.float32))
    return np.asarray(np.mean(parts, axis=0), np.float32)


@dataclass(frozen=True)
class _Part:
    """Features of frames, or of `regions`, and the frame [n] (row of the images) of each."""

    stored: Stored
    frames: NDArray[np.int64]
    regions: Sequence[RegionMask] | None = None


@dataclass(frozen=True)
class _Found:
    """A frame (row of the images), its cosine, and the region that it is of."""

    frame: int
    score: float
    region: RegionMask | None


def searched_parts(
    workspace: Workspace,
    model: MaskClip,
    folder: Path,
    images: pd.DataFrame,
    options: SearchOptions,
) -> list[_Part]:
    """The features that the query is compared with, up to date."""
    side, parts = model.image_size, []
    files = [str(file) for file in images["file"]]
    pictures = [picture_of(file) for file in files]
    if options.mask is None:
        place = index_place(workspace, folder, side, "frames")
        encode_frames = partial(_encode_frames, workspace, model, files)
        stored = stored_features(place, pictures, encode_frames)
        parts.append(_Part(stored, np.arange(len(images))))
        if options.image is not None or not options.masks:
            return parts
    regions = read_regions(workspace.masks(), images, side).masks
    if regions:
        place = index_place(workspace, folder, side, "regions")
        names = [f"{pictures[region.frame]}:{region.digest}" for region in regions]
        paths = [workspace.root / file for file in files]
        encode = partial(_encode_regions, model, paths, regions)
        of_frames = np.array([region.frame for region in regions], np.int64)
        parts.append(_Part(stored_features(place, names, encode), of_frames, regions))
    elif not parts:
        raise SonoError(
            f"{workspace.root}: no accepted or edited masks to compare the region with; accept "
            "some with `sono masks review`, or search without --mask"
        )
    return parts


def nearest(
    parts: Sequence[_Part], query: Features, top: int, allowed: NDArray[np.bool_]
) -> list[_Found]:
    """The `top` frames, each by the best of its features."""
    found: dict[int, _Found] = {}
    for part in parts:
        most = int(np.bincount(part.frames).max())  # so that `top` frames are among the rows
        rows, scores = best_rows(part.stored.features, query, top * most, allowed[part.frames])
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            frame = int(part.frames[row])
            if frame not in found or score > found[frame].score:
                region = None if part.regions is None else part.regions[row]
                found[frame] = _Found(frame, score, region)
    return sorted(found.values(), key=lambda each: (-each.score, each.frame))[:top]


def _encode_frames(
    workspace: Workspace, model: MaskClip, files: Sequence[str], rows: Sequence[int]
) -> Features:
    """The features [n, d] of the frames `rows`, without masks."""
    names, side = [files[row] for row in rows], model.image_size
    packed = kept_frames(workspace, names, side)
    frames = [workspace.root / name for name in names] if packed is None else packed
    whole = np.ones((side, side), np.bool_)
    return mode_features(model, frames, ["all_one"], lambda _mode, _row: whole, BATCH)["all_one"]


def _encode_regions(
    model: MaskClip, files: Sequence[Path], regions: Sequence[RegionMask], rows: Sequence[int]
) -> Features:
    """The features [n, d] of the regions `rows`: their frames under their masks."""
    parts = []
    for start in range(0, len(rows), BATCH):
        shown = [regions[row] for row in rows[start : start + BATCH]]
        squares = read_squares(files, [region.frame for region in shown], model.image_size)
        masks = np.stack([region.pixels() for region in shown])
        parts.append(masked_features(model, squares, masks))
    return np.concatenate(parts)


def _hits(
    workspace: Workspace, info: RunInfo, images: pd.DataFrame, found: Sequence[_Found]
) -> list[Hit]:
    """What the tables know of the frames found."""
    frames = images.iloc[[each.frame for each in found]]
    seen = Seen(patients=info.patients_seen, image_ids=info.image_ids_seen)
    related = set(frames.loc[leaking(frames, images, seen), "image_id"])
    captions = _captions(workspace, info.template, set(frames["image_id"]))
    hits: list[Hit] = []
    for each, frame in zip(found, rows_of(frames), strict=True):
        image_id = str(frame["image_id"])
        hits.append(
            Hit(
                rank=len(hits) + 1,
                score=round(each.score, 4),
                image_id=image_id,
                plane=frame["plane"],
                center=frame["center"],
                structure=None if each.region is None else each.region.structure,
                caption=captions.get(image_id),
                seen=_seen(image_id, info, related),
                file=str(frame["file"]),
                mask_ids=() if each.region is None else each.region.mask_ids,
            )
        )
    return hits


def _seen(image_id: str, info: RunInfo, related: set[str]) -> str | None:
    if image_id in info.image_ids_seen:
        return "frame"
    return "related" if image_id in related else None


def _captions(workspace: Workspace, template: str, image_ids: set[str]) -> dict[str, str]:
    """The caption of each frame that has one, by image id; that of the run's template first."""
    table = usable_captions(workspace.read(CAPTIONS))
    table = table[table["image_id"].isin(image_ids) & table["level"].eq("global")]
    templates = load_templates(template)
    own = table["template"].isin([templates.name, templates.id])
    rows = rows_of(pd.concat([table[~own], table[own]]))
    return {row["image_id"]: row["text"] for row in rows}
