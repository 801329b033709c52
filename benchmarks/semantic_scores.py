"""The scores of a run in `semantics.py`, by frame and by mask, so that runs can be paired."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from frozen_heads import SIDE, HeadModel
from full_models import Trained
from lesions import KINDS
from numpy.typing import NDArray

from sono.annotation.caption_facts import english_list
from sono.curation.core.workspace import Workspace
from sono.evaluation.region_control.measures import TRAINING
from sono.evaluation.region_control.regions import read_regions, region_texts
from sono.evaluation.statistics.metrics import cosines, predict
from sono.evaluation.statistics.retrieval import precision_by_chance, retrieve
from sono.evaluation.zero_shot import class_features, text_features
from sono.templates.loader import CaptionTemplates, load_templates
from sono.training.model.mask_clip import MaskClip

Model = HeadModel | Trained
Arrays = dict[str, NDArray[Any]]
Captions = Mapping[str, Mapping[str, str]]


def score(model: Model, study: Workspace, captions: Captions, frames: pd.DataFrame) -> Arrays:
    """The values of a run by frame and by mask of the test `frames`, and their classes."""
    templates, table = load_templates("standard"), study.planes()
    text_model = cast("MaskClip", model)  # only its texts are used
    image = model.features(frames["image_id"].tolist())
    ids = sorted(frames["plane"].unique())
    names, planes = [table.by_id[one].name for one in ids], _index(frames["plane"], ids)
    kinds = _index([_kind_of(words) for words in frames["findings"]], list(KINDS))
    found = {"planes": planes, "findings": kinds, "patients": frames["patient_id"].to_numpy(str)}
    classes = class_features(text_model, [*map(templates.render_prompts, names)])
    found["plane"] = predict(cosines(image, classes)) == planes
    found["plane_unseen"] = _of_prompts(text_model, image, templates, names, planes)
    answers = _findings(text_model, image, names, planes)
    found["finding"] = answers == kinds
    found["overlap"] = np.array([_shared(*pair) for pair in zip(answers, kinds, strict=True)])
    for way, texts in captions.items():
        own = [texts.get(name) for name in frames["image_id"]]
        found |= _retrieval(text_model, image, own, way, planes, kinds)
    return found | _naming(model, study, frames, templates)


def _index(values: Any, names: Sequence[str]) -> NDArray[np.int64]:
    return np.array([names.index(value) for value in values], np.int64)


def _kind_of(words: Any) -> str:
    return next(kind for kind, own in KINDS.items() if set(own) == set(words))


def _shared(one: int, other: int) -> float:
    """The overlap of the words of two kinds."""
    first, second = (set(list(KINDS.values())[number]) for number in (one, other))
    return len(first & second) / len(first | second)


def _of_prompts(
    model: MaskClip,
    image: NDArray[Any],
    templates: CaptionTemplates,
    names: list[str],
    truth: NDArray[Any],
) -> NDArray[np.float64]:
    """The share of prompts that training never used with which each frame is recognized."""
    texts = [templates.render_unseen_prompts(name) for name in names]
    hits = [
        predict(cosines(image, text_features(model, list(column)))) == truth
        for column in zip(*texts, strict=True)
    ]
    return np.mean(hits, axis=0)


def _findings(
    model: MaskClip, image: NDArray[Any], names: list[str], planes: NDArray[Any]
) -> NDArray[np.int64]:
    """Which of KINDS each frame shows, as a caption of its plane says it."""
    said = [english_list(sorted(words)) for words in KINDS.values()]
    texts = [
        f"A fetal ultrasound image of the {name} plane; study finding: {words}."
        for name in names
        for words in said
    ]
    text = text_features(model, texts).reshape(len(names), len(said), -1)
    return predict(np.einsum("nd,nkd->nk", image, text[planes]))


def _retrieval(
    model: MaskClip,
    image: NDArray[Any],
    captions: list[str | None],
    way: str,
    planes: NDArray[Any],
    kinds: NDArray[Any],
) -> Arrays:
    """Average precision of each frame's caption among those of all frames and of its plane.

    With what a model has by chance that knows the plane, or the plane and the finding.
    """
    rows = np.array([row for row, text in enumerate(captions) if text is not None])
    texts, own = np.unique([captions[row] for row in rows], return_inverse=True)
    text, found = text_features(model, [str(one) for one in texts]), {}
    for name in (way, f"{way}_plane", f"{way}_known_plane", f"{way}_known"):
        found[name] = np.full(len(image), np.nan)
    found[way][rows] = retrieve(image[rows], text, own, np.arange(len(texts)), (1,)).precision
    for plane in np.unique(planes[rows]):
        here = planes[rows] == plane
        ids = np.unique(own[here])
        found[f"{way}_plane"][rows[here]] = retrieve(
            image[rows[here]], text[ids], own[here], ids, (1,)
        ).precision
        found[f"{way}_known_plane"][rows[here]] = precision_by_chance(own[here], ids)
        for kind in np.unique(kinds[rows[here]]):
            both = here & (kinds[rows] == kind)
            found[f"{way}_known"][rows[both]] = precision_by_chance(own[both], np.unique(own[both]))
    return found


def _naming(
    model: Model, study: Workspace, frames: pd.DataFrame, templates: CaptionTemplates
) -> Arrays:
    """Whether each mask is named among the structures of its plane: by prompts, seen and unseen."""
    masks = read_regions(study.masks(), frames, SIDE).masks
    under = {
        place: torch.from_numpy(one.pixels()).float()[None, None] for place, one in enumerate(masks)
    }
    image = model.features([frames["image_id"][one.frame] for one in masks], under)
    table = study.planes()
    names = sorted({*table.structures, *(one.structure for one in masks)})
    planes = [table.by_id[frames["plane"][one.frame]].structures for one in masks]
    truth = _index([one.structure for one in masks], names)
    shown = np.array([[name in own for name in names] for own in planes])
    shown[np.arange(len(masks)), truth] = True
    hits = {
        title: predict(np.where(shown, cosines(image, texts), -2.0)) == truth
        for title, texts in region_texts(cast("MaskClip", model), templates, names).items()
    }
    patients = frames["patient_id"].to_numpy(str)[[one.frame for one in masks]]
    unseen = np.mean([found for title, found in hits.items() if title != TRAINING], axis=0)
    return {"naming": hits[TRAINING], "naming_unseen": unseen, "mask_patients": patients}
