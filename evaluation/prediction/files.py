"""The stage `predict`: the plane, or a user's own texts, for files of any format."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sono.curation.core.atomic import check_target, real_path, write_bytes
from sono.curation.core.drawing import DrawnMask, contact_sheet, overlay
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import SonoError, counted
from sono.curation.core.workspace import Workspace
from sono.curation.imaging.quality import QualityConfig
from sono.curation.readers.files import list_sources, without_studies
from sono.evaluation.prediction.map_sheet import phrase_maps
from sono.evaluation.prediction.model import Model, load_model
from sono.evaluation.prediction.reading import (
    CARD_SIDE,
    NOT_READ,
    Reading,
    ReadTask,
    crashed,
    read_file,
    read_mask,
)
from sono.evaluation.prediction.view import Answer, FilePrediction, Predictions
from sono.evaluation.zero_shot import masked_features, warn_of_cut_texts
from sono.training.model.checkpoints import RUN, find_run

CARDS, COLUMNS = 60, 6  # frames on the picture


@dataclass(frozen=True)
class PredictOptions:
    """The files and folders, the run, and what is asked of each frame.

    `run` is the name of a run of the workspace or any run's folder; None is the newest run. `map`
    is a PNG of the places that the cosine with the first text comes from.
    """

    files: tuple[Path, ...]
    run: str | None = None
    mask: Path | None = None
    propose: bool = False
    texts: tuple[str, ...] = ()
    picture: Path | None = None
    names: bool = False
    top: int = 3
    map: Path | None = None


def predict_files(
    workspace: Workspace | None, options: PredictOptions, engine: Engine | None = None
) -> Predictions:
    """Predict each file, in the order of the arguments; a folder is searched below.

    Files are read, cropped and cleared of text as by `sono qc`. Nothing of them is kept but the
    `picture`. Raises SonoError if there is no run or not one file can be read.
    """
    _check_options(workspace, options)
    run, paths = _run(workspace, options.run), _paths(options.files)
    _check_pictures(options, paths)
    config = (
        QualityConfig.model_validate({})
        if workspace is None
        else workspace.settings("qc", QualityConfig)
    )
    mask = None if options.mask is None else read_mask(options.mask)
    if mask is not None and len(paths) > 1:
        raise SonoError(f"--mask is of one file, but these are {len(paths)}; give one file")
    if options.map is not None and len(paths) > 1:
        raise SonoError(f"--map is of one file, but these are {len(paths)}; give one file")
    model = load_model(run)
    warn_of_cut_texts(model.clip, options.texts, "text")
    task = ReadTask(
        config,
        model.clip.image_size,
        mask,
        options.propose,
        options.picture is not None or options.map is not None,
    )
    rows, readings = _predict_all(model, task, paths, options, engine or Engine())
    result = Predictions(model.info.name, model.probabilities_source, tuple(rows))
    _refuse_nothing(result)
    written = tuple(str(path) for path in (options.picture, options.map) if path is not None)
    if options.picture is not None:
        write_bytes(options.picture, _picture(result, readings))
    if options.map is not None:
        words = options.texts[0]
        text = model.encode_text([words])[0]
        picture, maps = phrase_maps(model.clip, readings[0], text, words)
        write_bytes(options.map, picture)
        result = replace(result, maps=maps)
    return replace(result, written=written)


def _check_options(workspace: Workspace | None, options: PredictOptions) -> None:
    if options.mask is not None and options.propose:
        raise SonoError("--mask and --propose exclude each other; give one of them")
    if any(not text.strip() for text in options.texts):
        raise SonoError("--text is empty; give words, as in --text 'a fetal head'")
    if options.map is not None and not options.texts:
        raise SonoError("--map needs words; give --text, as in --text 'a fetal head'")
    for picture in filter(None, (options.picture, options.map)):
        if picture.suffix.lower() != ".png":
            raise SonoError(f"{picture}: the picture is a PNG; name it .png")
        if workspace is None:
            check_target(picture)
        else:
            workspace.check_output(picture, b"\x89PNG")


def _check_pictures(options: PredictOptions, paths: Sequence[bytes]) -> None:
    """Raise SonoError if a picture would replace a file that is read, or the other picture."""
    read = {real_path(Path(os.fsdecode(path))) for path in paths}
    read |= set() if options.mask is None else {real_path(options.mask)}
    for name, picture in (("--picture", options.picture), ("--map", options.map)):
        if picture is not None and real_path(picture) in read:
            raise SonoError(f"{name} would replace a file that is read here; name a new file")
        read |= set() if picture is None else {real_path(picture)}


def _run(workspace: Workspace | None, given: str | None) -> Path:
    if given is not None and "/" in given:
        folder = Path(given)
        if (folder / RUN).is_file() or (folder.parent / RUN).is_file():
            return folder
    if workspace is None:
        raise SonoError(
            "no workspace here, and --run is not the folder of a run; give --workspace, or "
            "--run STUDY/runs/NAME"
        )
    return find_run(workspace, given)


def _paths(files: Sequence[Path]) -> list[bytes]:
    listed = [path for file in files for path in list_sources(file)]
    paths, studies = without_studies(dict.fromkeys(listed))
    if not paths:
        raise SonoError(
            f"only {counted(sum(studies.values()), 'file')} of a study of sono; give raw files "
            "(stored frames: `sono eval`)"
        )
    return paths


def _predict_all(
    model: Model,
    task: ReadTask,
    paths: Sequence[bytes],
    options: PredictOptions,
    engine: Engine,
) -> tuple[list[FilePrediction], list[Reading]]:
    """One row per path in the given order, and what was read."""
    number = {path: place for place, path in enumerate(paths)}
    rows: dict[int, tuple[FilePrediction, Reading]] = {}
    read = partial(read_file, task)
    for batch in run_batches(engine, read, paths, partial(crashed, task), "predict"):
        for reading in batch:
            place = number[reading.path]
            row = _row(model, reading, place + 1, options)
            if options.names:
                row = row.named(os.fsdecode(reading.path))
            rows[place] = row, reading
    ordered = [rows[place] for place in sorted(rows)]
    return [row for row, _ in ordered], [reading for _, reading in ordered]


def _row(model: Model, reading: Reading, number: int, options: PredictOptions) -> FilePrediction:
    base: dict[str, Any] = {
        "file": number,
        "frames": reading.frames,
        "status": reading.status,
        "reasons": reading.reasons,
        "message": reading.message,
    }
    if reading.status == NOT_READ:
        return FilePrediction(**base)
    features = masked_features(model.clip, reading.squares, reading.masks)
    names = [plane.name for plane in model.planes.planes]
    shares = model.plane_probabilities(features).mean(axis=0)
    order = np.argsort(-shares, kind="stable")[: options.top]
    cosines = (features @ model.encode_text(options.texts).T).mean(axis=0)
    return FilePrediction(
        **base,
        used=len(features),
        mask=_common(reading.shown),
        planes=tuple(Answer(names[place], round(float(shares[place]), 4)) for place in order),
        texts=tuple(
            Answer(text, round(float(cosine), 4))
            for text, cosine in zip(options.texts, cosines, strict=True)
        ),
    )


def _common(shown: Sequence[str]) -> str:
    """What the masks of a file are: the most frequent one."""
    return Counter(shown).most_common(1)[0][0]


def _refuse_nothing(result: Predictions) -> None:
    if any(row.planes for row in result.rows):
        return
    first = result.rows[0]
    if len(result.rows) == 1:
        raise SonoError(f"the file gives no frame: {first.message} ({', '.join(first.reasons)})")
    counts = Counter(row.reasons[0] for row in result.rows).most_common()
    raise SonoError(
        f"none of the {len(result.rows)} files gives a frame: "
        f"{', '.join(f'{code} {count}' for code, count in counts)} (see docs/reasons.md)"
    )


def _picture(result: Predictions, readings: Sequence[Reading]) -> bytes:
    """A sheet of the first frames of the files, with their masks and answers."""
    tiles = []
    for row, reading in zip(result.rows, readings, strict=True):
        if not row.planes:
            continue
        if reading.card is None:
            gray, mask = np.zeros((CARD_SIDE, CARD_SIDE), np.uint8), None
            note = "not drawn: may show names"
        else:
            gray, mask, note = reading.card.gray, reading.card.mask, row.mask
        drawn = [] if mask is None else [DrawnMask(row.mask, mask, proposed=True)]
        answer = row.planes[0]
        caption = f"{row.file}: {answer.text} {100 * answer.value:.0f} %\n{note}"
        tiles.append((overlay(gray, drawn), caption))
    legend = (f"the first {CARDS} of {len(tiles)} files",) if len(tiles) > CARDS else ()
    return contact_sheet(tiles[:CARDS], COLUMNS, CARD_SIDE, (*legend, result.source))
