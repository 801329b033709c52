"""The results of probes of classes and of sites, as numbers, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sono.evaluation.probes.classes import (
    FINE_TUNED,
    FINE_TUNED_SHUFFLED,
    FINE_TUNED_UNTRAINED,
    METRICS,
    ZERO_SHOT,
    class_rows,
    class_scores,
)
from sono.evaluation.probes.classify import Reals
from sono.evaluation.probes.few_shot import Shown, below_sentence, few_shot
from sono.evaluation.probes.figure import few_shot_figure
from sono.evaluation.probes.fine_tune import fine_tune
from sono.evaluation.probes.sites import Sites, robustness, site_probe
from sono.evaluation.probes.study import PLANE, Probe
from sono.evaluation.result_tables import PERCENT, POINTS, Cell, ResultTable, Unit, exact
from sono.evaluation.statistics.bootstrap import Interval
from sono.evaluation.statistics.metrics import cosines
from sono.evaluation.zero_shot import class_features
from sono.templates.loader import load_templates

INDEX = Unit("index", 1, ".3f", "as a number, 1 is best")
FRAMES = Unit("frames", 1, ".0f", "as number of frames")


@dataclass(frozen=True)
class Found:
    """The results of one kind of probe.

    Attributes:
        metrics: Everything, for JSON.
        tables: One per metric.
        sentences: The results in words, the most important first.
        figures: SVG pictures by title.
    """

    metrics: dict[str, Any]
    tables: tuple[ResultTable, ...]
    sentences: tuple[str, ...]
    figures: Mapping[str, bytes] = field(default_factory=dict)


def measure_classes(probe: Probe) -> Found:
    """Linear, nearest neighbors, zero-shot and controls, then with few patients."""
    data = probe.labeled
    texts = _texts(probe)
    zero_shot = None if texts is None else cosines(probe.features.embedded, texts)
    found = class_scores(data, probe.used, probe.untrained, zero_shot, probe.settings.seed)
    tuned: dict[str, Any] = {}
    if probe.options.fine_tune:
        answers, tuned = fine_tune(probe)
        found = found.with_answers(answers)
    measures, differences = found.measures(probe.draws), found.differences(probe.draws)
    shots = few_shot(data, Shown(probe.features, texts, zero_shot), probe.settings.seed)
    rows = class_rows(data, found)
    sizes = {"images": len(data.tested), "clusters": len(set(data.clusters[data.tested].tolist()))}
    chance, shuffled = 1 / len(found.scored.present), float(np.mean(found.shuffled))
    metrics: dict[str, Any] = {
        **sizes,
        "classes": rows,
        "scores": _dicts(measures),
        "chance": chance,
        "shuffled_labels": {"mean": shuffled, "permutations": found.shuffled},
        "differences": {
            f"{one} - {other}": interval.as_dict() for (one, other), interval in differences.items()
        },
        "chosen": {**found.chosen, **tuned},
        "few_shot": shots,
    }
    baselines = {"shuffled_labels": shuffled, "chance": chance}
    tables = (
        _score_table(measures, baselines, sizes),
        _difference_table(differences, sizes),
        _few_shot_table(shots),
        _recall_table(rows),
    )
    sentences = [
        _sentence(probe, measures, shuffled, chance),
        _tuned_sentence(measures, differences),
        below_sentence(shots),
    ]
    line = measures.get(ZERO_SHOT)
    figures = {}
    if shots:
        floor = None if line is None else line[METRICS[0]].point
        figures["Few patients"] = few_shot_figure(shots, floor, chance)
    return Found(metrics, tables, tuple(filter(None, sentences)), figures)


def measure_sites(probe: Probe) -> Found:
    """Whether the site can be read on balanced draws, and the robustness index."""
    planes = np.unique(probe.frames["plane"].to_numpy(str), return_inverse=True)[1]
    found = Sites(probe.labeled, planes.astype(np.int64))
    seed, used = probe.settings.seed, probe.used
    shown = {"features": used, "untrained_encoder": probe.untrained}
    read = {name: site_probe(found, each, seed) for name, each in shown.items()}
    index = {name: robustness(found, each, seed, probe.draws) for name, each in shown.items()}
    metrics = {"sites": list(probe.labeled.names), "reading": read, "robustness": index}
    cells = [
        Cell(name, column, exact(row[column]), {"frames": row["images"]})
        for name, row in read.items()
        if row
        for column in ("accuracy", "permuted", "permuted_high", "chance")
    ]
    scores = [
        Cell(
            name,
            column,
            Interval.from_dict(row["index"]) if column == "index" else exact(row[column]),
            {"frames": row["images"], "patients": row["clusters"]},
        )
        for name, row in index.items()
        if row
        for column in ("index", "by_chance")
    ]
    tables = (
        ResultTable("site_reading", ("encoder", "labels"), PERCENT, tuple(cells)),
        ResultTable("robustness", ("encoder", "neighbors"), INDEX, tuple(scores)),
    )
    return Found(
        metrics, tables, tuple(_site_sentences(probe, read["features"], index["features"]))
    )


def _texts(probe: Probe) -> Reals | None:
    """Unit features [classes, d] of the prompts of each plane; None where nothing reads texts."""
    if probe.options.target != PLANE or not probe.probed.template:
        return None
    templates, planes = load_templates(probe.probed.template), probe.workspace.planes()
    planes.check(list(probe.labeled.names))
    names = {plane.id: plane.name for plane in planes.planes}
    prompts = [templates.render_prompts(names[name]) for name in probe.labeled.names]
    return class_features(probe.probed.model, prompts)


def _dicts(measures: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Any]]:
    return {
        name: {metric: interval.as_dict() for metric, interval in row.items()}
        for name, row in measures.items()
    }


def _score_table(
    measures: Mapping[str, Mapping[str, Interval]],
    baselines: Mapping[str, float],
    sizes: Mapping[str, int],
) -> ResultTable:
    counts = {"frames": sizes["images"], "patients": sizes["clusters"]}
    scores = [
        Cell(name, metric, row[metric], counts)
        for name, row in measures.items()
        for metric in METRICS
    ]
    others = [Cell(name, METRICS[0], exact(value), counts) for name, value in baselines.items()]
    return ResultTable("scores", ("method", "metric"), PERCENT, (*scores, *others))


def _difference_table(
    differences: Mapping[tuple[str, str], Interval], sizes: Mapping[str, int]
) -> ResultTable:
    counts = {"frames": sizes["images"], "patients": sizes["clusters"]}
    cells = [
        Cell(f"{one}_minus_{other}", "", interval, counts)
        for (one, other), interval in differences.items()
    ]
    return ResultTable("differences", ("difference", ""), POINTS, tuple(cells))


def _recall_table(rows: Sequence[Mapping[str, Any]]) -> ResultTable:
    cells = [
        Cell(
            row["class"], name, exact(value), {"frames": row["images"], "patients": row["clusters"]}
        )
        for row in rows
        for name, value in row["recall"].items()
    ]
    return ResultTable("recall", ("class", "method"), PERCENT, tuple(cells))


def _few_shot_table(shots: Sequence[Mapping[str, Any]]) -> ResultTable:
    cells = [
        Cell(row["label"], f"{name}{suffix}", exact(scores[key]), {"frames": round(row["frames"])})
        for row in shots
        for name, scores in row["methods"].items()
        for suffix, key in (("", "mean"), ("_sd", "sd"))
    ]
    return ResultTable("few_shot", ("patients", "method"), PERCENT, tuple(cells))


def _sentence(
    probe: Probe,
    measures: Mapping[str, Mapping[str, Interval]],
    shuffled: float,
    chance: float,
) -> str:
    names = {
        "zero_shot": "zero-shot",
        "nearest_neighbors": "nearest neighbors",
        "untrained_encoder": "an untrained encoder",
    }
    rest = ", ".join(
        f"{words} {PERCENT.point(measures[name][METRICS[0]])}"
        for name, words in names.items()
        if name in measures
    )
    return (
        f"A linear probe names the {probe.options.target} with "
        f"{PERCENT.text(measures['linear'][METRICS[0]])} % macro Top-1 ({rest}; "
        f"shuffled labels {100 * shuffled:.1f}, chance {100 * chance:.1f})."
    )


def _tuned_sentence(
    measures: Mapping[str, Mapping[str, Interval]],
    differences: Mapping[tuple[str, str], Interval],
) -> str:
    if FINE_TUNED not in measures:
        return ""
    points = {name: PERCENT.text(row[METRICS[0]]) for name, row in measures.items()}
    gain = POINTS.text(differences[FINE_TUNED, "linear"])
    return (
        f"With all weights fine-tuned it is {points[FINE_TUNED]} % (difference to the linear probe "
        f"{gain} points); from random weights {points[FINE_TUNED_UNTRAINED]} %, with shuffled "
        f"labels {points[FINE_TUNED_SHUFFLED]} %."
    )


def _site_sentences(probe: Probe, read: Mapping[str, Any], index: Mapping[str, Any]) -> list[str]:
    target = probe.options.target
    if not read:
        first = (
            f"The {target} cannot be probed: no plane has frames of every {target} among those to "
            "fit, choose and test on."
        )
    else:
        can = "can" if read["p_value"] < 0.05 else "is not shown to"
        first = (
            f"The {target} {can} be read from the features: {100 * read['accuracy']:.1f} % of "
            f"balanced draws, {100 * read['permuted']:.1f} % for permuted patients "
            f"(p = {read['p_value']:.3f}), chance {100 * read['chance']:.1f} %."
        )
    if not index:
        return [first, f"There is no robustness index: no plane has frames of every {target}."]
    interval = Interval.from_dict(index["index"])
    return [
        first,
        f"Robustness index {INDEX.text(interval)} (1: the plane alone decides who is near; by "
        f"chance {index['by_chance']:.3f}), {index['neighbors']} neighbors of other patients.",
    ]
