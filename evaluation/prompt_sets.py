"""Zero-shot plane recognition with sets of prompts: together, and with each prompt alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.region_control.measures import TRAINING
from sono.evaluation.statistics.bootstrap import (
    Draws,
    Interval,
    Mean,
    Sample,
    Statistic,
    clustered_intervals,
    macro,
)
from sono.evaluation.statistics.metrics import cosines, predict
from sono.evaluation.summaries import Scored
from sono.evaluation.zero_shot import (
    Features,
    class_features,
    text_features,
    warn_of_cut_texts,
)
from sono.templates.loader import CaptionTemplates, load_prompts, load_templates
from sono.training.model.mask_clip import MaskClip

PUBLISHED = "sonoclip"
NO_INTERVAL = (float("nan"), float("nan"))


@dataclass(frozen=True)
class PromptSet:
    """Unit text features of the planes: `together` [planes, d], and by the text of each prompt."""

    together: Features
    each: Mapping[str, Features]


def prompt_sets(
    model: MaskClip,
    templates: CaptionTemplates,
    plane_names: Sequence[str],
    own: str | PathLike[str] | None = None,
) -> dict[str, PromptSet]:
    """The sets by name: of training, unseen in training, published, and of the file `own`.

    Together, the text of a plane is the mean of all prompts. Raises SonoError for a file that
    cannot be read, with the line of a wrong prompt.
    """
    ways: dict[str, Callable[[str], list[str]]] = {
        TRAINING: templates.render_prompts,
        "unseen": templates.render_unseen_prompts,
        PUBLISHED: load_templates(PUBLISHED).render_prompts,
    }
    if own is not None:
        ways["own"] = load_prompts(own)
        texts = [text for name in plane_names for text in ways["own"](name)]
        warn_of_cut_texts(model, texts, "prompt")
    if ways[PUBLISHED]("PLANE") == ways[TRAINING]("PLANE"):
        del ways[PUBLISHED]
    return {name: _prompt_set(model, render, plane_names) for name, render in ways.items()}


def _prompt_set(
    model: MaskClip, render: Callable[[str], list[str]], plane_names: Sequence[str]
) -> PromptSet:
    texts = [render(name) for name in plane_names]
    each = {
        prompt: text_features(model, [own[number] for own in texts])
        for number, prompt in enumerate(render("PLANE"))
    }
    return PromptSet(class_features(model, texts), each)


def prompt_set_results(
    images: Features, scored: Scored, sets: Mapping[str, PromptSet], how: Draws
) -> dict[str, Any]:
    """Top-1 macro of the image features [frames, d] with each set, by candidates.

    The candidates are the planes present and all planes, as in the metrics of whole frames.
    """
    everything = np.arange(len(scored.planes))
    found = {
        "": {name: _results(images, scored, one, scored.present, how) for name, one in sets.items()}
    }
    suffix = f"_of_{len(everything)}"
    found[suffix] = {
        name: _results(images, scored, one, everything, how) for name, one in sets.items()
    }
    return {"candidates": found, "frames": len(images), "clusters": len(np.unique(scored.clusters))}


def _results(
    images: Features, scored: Scored, prompts: PromptSet, among: NDArray[np.int64], how: Draws
) -> dict[str, Any]:
    """Intervals of the set together, of the mean over its prompts, and of each prompt alone.

    The standard deviation is that over the prompts; the worst prompt has the lowest Top-1.
    """
    truth = np.searchsorted(among, scored.truth)
    hits = np.column_stack(
        [
            predict(cosines(images, texts[among])) == truth
            for texts in (prompts.together, *prompts.each.values())
        ]
    )
    values = np.column_stack([hits, hits[:, 1:].mean(axis=1)]).astype(np.float64)
    statistics: dict[str, Statistic] = {
        name: macro(column) for column, name in enumerate(("together", *prompts.each))
    }
    statistics["alone_mean"] = Mean(values.shape[1] - 1, kind="number")
    classes, clusters = (
        np.unique(index, return_inverse=True)[1] for index in (scored.truth, scored.clusters)
    )
    intervals = clustered_intervals(Sample(values, classes, clusters), statistics, how)
    alone = {name: intervals[name].point for name in prompts.each}
    worst = min(alone, key=lambda name: alone[name])
    sd = float(np.std(list(alone.values()), ddof=1)) if len(alone) > 1 else float("nan")
    return {
        "together": intervals["together"].as_dict(),
        "alone_mean": intervals["alone_mean"].as_dict(),
        "alone_sd": Interval(sd, *NO_INTERVAL).as_dict(),
        "worst": intervals[worst].as_dict(),
        "worst_prompt": worst,
        "each": {name: intervals[name].as_dict() for name in prompts.each},
    }
