"""The evaluation report: one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sono.curation.core.atomic import write_text
from sono.curation.core.frame_files import read_stored
from sono.evaluation.calipers import caliper_sentence
from sono.evaluation.examples import hardest_frames, pick_examples
from sono.evaluation.feature_map import UNKNOWN, feature_map
from sono.evaluation.modes import mask_for
from sono.evaluation.plots import confusion_plot, frame_card, modes_plot
from sono.evaluation.probability_plots import probabilities_plot
from sono.evaluation.region_control.figure import regions_picture
from sono.evaluation.region_control.regions import Regions
from sono.evaluation.result_tables import ResultTable, all_present, distinct_names, metric_title
from sono.evaluation.results import Evidence
from sono.evaluation.statistics.bootstrap import Interval
from sono.evaluation.statistics.metrics import Reals
from sono.evaluation.summaries import Scored
from sono.templates.reports import data_uri, render_report, row_words, words

CARD_SIDE = 256  # pixels
PAGE_WIDTH = 1052  # pixels
RETRIEVAL = ("retrieval", "retrieval_gain")
BOUNDS = ("by_chance", "known_group", "own_pair")


@dataclass(frozen=True)
class Gallery:
    """The data of the tables and figures in the report.

    `texts` [m, d] are the features of the frames' captions, `images` [n, d] those of the frames.
    """

    evidence: Evidence
    image_ids: Sequence[str]
    files: Sequence[Path]
    regions: Regions
    tables: Mapping[str, ResultTable]
    images: Reals
    texts: Reals


def write_report(path: Path, metrics: dict[str, Any], gallery: Gallery) -> None:
    """Write report.html with the `metrics` and the figures and examples of `gallery`."""
    classes = [gallery.evidence.plane_names[plane] for plane in metrics["planes"]]
    shown = [mode for mode in ("all_one", "proposed") if mode in metrics["confusion"]]
    patients = "patients" if metrics["frames_without_patient"] == 0 else "patients or files"
    text = render_report(
        "evaluation.html.j2",
        metrics=metrics,
        tables=gallery.tables,
        metric_names={name: metric_title(name) for name in distinct_names(metrics)},
        all_present=all_present(metrics),
        count_words={"patients": patients, "in_training": "in training"},
        words=row_words(),
        prompt_words=words("prompts"),
        caliper_sentence=caliper_sentence(metrics["calipers"]),
        retrieval_words=_retrieval_words(gallery.tables),
        questions={
            "_minus_".join(row["modes"]): f"{row['question']} {row['reading']}"
            for row in metrics["differences"]
        },
        confusion_width=min(240 + 36 * len(classes), PAGE_WIDTH),
        plane_names=gallery.evidence.plane_names,
        settings=_settings(metrics),
        modes_picture=data_uri(_modes_picture(metrics)),
        confusions={
            mode: data_uri(
                confusion_plot(
                    np.array(metrics["confusion"][mode]), classes, f"{_spaced(mode)} mask"
                )
            )
            for mode in shown
        },
        regions_picture=_regions_picture(gallery),
        map_picture=data_uri(_map_picture(gallery)),
        probabilities_picture=data_uri(probabilities_plot(metrics["probabilities"])),
        hardest=[
            _example(gallery, number)
            for number in hardest_frames(gallery.evidence.scored, gallery.image_ids)
        ],
        examples=[
            _example(gallery, number)
            for number in pick_examples(gallery.evidence.scored, gallery.image_ids)
        ],
    )
    write_text(path, text)


def _retrieval_words(tables: Mapping[str, ResultTable]) -> dict[str, str]:
    """What each row of retrieval means; rows of chance and bounds are named by their ends."""
    known = row_words()
    rows = [row for name in RETRIEVAL if name in tables for row in tables[name].rows]
    return {
        row: known.get(row) or next(known[end] for end in BOUNDS if row.endswith(end))
        for row in rows
    }


def _example(gallery: Gallery, number: int) -> dict[str, Any]:
    scored, image_id, names = (
        gallery.evidence.scored,
        gallery.image_ids[number],
        gallery.evidence.plane_names,
    )
    scores = scored.scores["all_one"][number, scored.present]
    best = np.argsort(-scores, kind="stable")[:3]
    truth = scored.planes[scored.truth[number]]
    masks = {
        mode: mask_for(gallery.evidence.plan, mode, image_id, CARD_SIDE)
        for mode in ("proposed", "annotated")
        if image_id in getattr(gallery.evidence.plan, mode)
    }
    outlines = {mode: mask for mode, mask in masks.items() if mask is not None}
    return {
        "image_id": image_id,
        "truth": names[truth],
        "right": bool(scored.predictions("all_one")[number] == scored.present_truth[number]),
        "nearest": [(names[scored.present_planes[index]], float(scores[index])) for index in best],
        "with_proposed": _answer(scored, "proposed", number, names)
        if "proposed" in outlines
        else None,
        "picture": data_uri(frame_card(read_stored(gallery.files[number]), outlines, CARD_SIDE)),
    }


def _answer(scored: Scored, mode: str, number: int, names: Mapping[str, str]) -> str | None:
    if mode not in scored.scores:
        return None
    answer = int(scored.predictions(mode)[number])
    return "undecided" if answer < 0 else names[scored.present_planes[answer]]


def _modes_picture(metrics: dict[str, Any]) -> bytes:
    groups = {
        f"{group['title']} (n = {group['frames']})": {
            mode: Interval.from_dict(values[metrics["compared_metric"]])
            for mode, values in group["modes"].items()
        }
        for group in metrics["groups"]
    }
    constant = [group["baselines"]["constant"]["top1_macro"] for group in metrics["groups"]]
    return modes_plot(groups, constant, metric_title(metrics["compared_metric"]))


def _regions_picture(gallery: Gallery) -> str:
    """The figure of region control as a data URI; empty if there is none."""
    scored = gallery.evidence.scored
    planes = [gallery.evidence.plane_names[scored.planes[index]] for index in scored.truth]
    picture = regions_picture(gallery.regions, gallery.image_ids, gallery.files, planes)
    return data_uri(picture) if picture else ""


def _map_picture(gallery: Gallery) -> bytes:
    """The map of the features by plane, and by center and machine if there are several."""
    frames, names = gallery.evidence.selection.frames, gallery.evidence.plane_names
    groups = {"plane": [names[plane] for plane in frames["plane"]]}
    for name in ("center", "machine"):
        values = frames[name].astype(object).fillna(UNKNOWN).tolist()
        if len(set(values)) > 1:
            groups[name] = values
    return feature_map(gallery.images, gallery.texts, gallery.image_ids, groups)


def _settings(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The settings that are needed to repeat the evaluation, one row for each."""
    flat = {
        "run": metrics["run"],
        "checkpoint": metrics["checkpoint"],
        "data hash": metrics["data_hash"],
    }
    flat |= _flat("evaluation", metrics["settings"]) | _flat("run", metrics["run_config"])
    flat |= {
        f"prompt {number}": prompt for number, prompt in enumerate(metrics["prompts"], start=1)
    }
    return [{"name": name, "value": value} for name, value in flat.items()]


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings by dotted name."""
    flat: dict[str, str] = {}
    for name, value in sorted(values.items()):
        key = f"{prefix}.{name}"
        flat |= _flat(key, value) if isinstance(value, Mapping) else {key: str(value)}
    return flat


def _spaced(mode: str) -> str:
    return mode.replace("_", " ")
