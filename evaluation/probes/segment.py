"""The probe of masks: a light decoder of frozen maps, scored in the pixels of each frame."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sono.annotation.masks import pixels
from sono.annotation.segmenter.examples import Examples, load_examples
from sono.annotation.segmenter.proposer import in_frame
from sono.curation.core.arrays import Mask
from sono.curation.core.console import progress
from sono.curation.core.errors import SonoError
from sono.evaluation.modes import usable_masks
from sono.evaluation.probes.encoder import random_twin
from sono.evaluation.probes.maps import Maps, fit_decoder, frozen_maps, mean_masks, rows_of
from sono.evaluation.probes.measures import Found
from sono.evaluation.probes.study import Probe
from sono.evaluation.result_tables import PERCENT, Cell, ResultTable, Unit, exact
from sono.evaluation.statistics.bootstrap import NUMBER, Draws, Interval, Mean, clustered_interval
from sono.evaluation.statistics.segmentation import Agreement, agreement

MM = Unit("mm", 1, ".2f", "in mm")
LINEAR, PLACE, UNTRAINED = "linear", "mean_mask", "untrained_encoder"
SHARES = ("dice", "iou", "detected", "nsd_1mm", "nsd_2mm")
MACRO = Mean(kind="number")  # over structures
# probabilities [structures, S, S] of a frame by its row
Predict = Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True)
class Masked:
    """Frames with masks, as squares and as rows, and the masks of each in its own pixels."""

    frames: pd.DataFrame
    structures: tuple[str, ...]
    examples: Examples
    masks: Mapping[str, pd.DataFrame]  # by image id

    def truth(self, row: int) -> dict[str, Mask]:
        """The mask of each structure that the frame says something about; empty: not shown."""
        frame = self.frames.iloc[row]
        empty = np.zeros((int(frame["height"]), int(frame["width"])), np.bool_)
        known = self.examples.known[row]
        found = {
            name: empty.copy() for name, shown in zip(self.structures, known, strict=True) if shown
        }
        for mask in self.masks[str(frame["image_id"])].to_dict("records"):
            if mask["structure"] in found:
                found[str(mask["structure"])] |= pixels(mask)
        return found


def measure_masks(probe: Probe) -> Found:
    """Dice, IoU, NSD, HD95 and detection rate by structure, with two controls."""
    data = _masked(probe)
    batch = probe.settings.batch_size
    maps = frozen_maps(probe.probed.model, data.examples.frames, batch)
    random = frozen_maps(random_twin(probe.probed), data.examples.frames, batch)
    methods = {LINEAR: _decoded(probe, data, maps), UNTRAINED: _decoded(probe, data, random)}
    methods[PLACE] = _placed(probe, data)
    answers = {name: _answers(probe, data, predicted) for name, predicted in methods.items()}
    overall = {name: _summary(table, probe.draws) for name, table in answers.items()}
    rows = {
        name: {
            structure: _summary(table[table["structure"] == structure], probe.draws)
            for structure in data.structures
        }
        for name, table in answers.items()
    }
    metrics = {"structures": list(data.structures), "overall": overall, "by_structure": rows}
    tables = (
        *_tables("segmentation", "method", overall),
        *_tables("structures", "structure", rows[LINEAR]),
    )
    return Found(metrics, tables, (_sentence(overall),))


def _masked(probe: Probe) -> Masked:
    """The frames with masks of the structures that can be learned and tested."""
    masks = usable_masks(probe.workspace.masks(), probe.frames)
    ids = probe.frames["image_id"].to_numpy(str)
    own = [
        set.intersection(
            *(
                set(masks.loc[masks["image_id"].isin(ids[rows]), "structure"])
                for rows in (part.train, part.test)
            )
        )
        for part in probe.parts
    ]
    structures = tuple(sorted(set.intersection(*own)))
    if not structures:
        raise SonoError(
            "masks: no structure has an accepted mask both in a frame to fit on and in one to test "
            "on; accept or import more masks"
        )
    # every frame stays, so that its row is that of the parts
    every = sorted(set(masks["structure"]))
    frames = probe.frames
    side = probe.probed.model.image_size
    examples = load_examples(probe.workspace, frames, masks, every, side)
    kept = [every.index(name) for name in structures]
    bits = np.stack(
        [np.packbits(examples.masks_of(np.array([row]))[0, kept]) for row in range(len(examples))]
    )
    fewer = Examples(
        examples.frames, bits, examples.known[:, kept], examples.drawn[:, kept], examples.planes
    )
    groups = {str(name): group for name, group in masks.groupby("image_id")}
    return Masked(frames, structures, fewer, groups)


def _decoded(probe: Probe, data: Masked, maps: Maps) -> dict[int, Predict]:
    """How the structures of each tested row are predicted, by the decoder of its part."""
    found: dict[int, Predict] = {}
    for part in probe.parts:
        decoder = fit_decoder(maps, data.examples, part)

        def predict(row: int, decoder: torch.nn.Module = decoder) -> NDArray[np.float32]:
            with torch.inference_mode():
                logits = decoder(rows_of(maps, np.array([row])))[0]
            return np.asarray(torch.sigmoid(logits).numpy(), np.float32)

        found |= dict.fromkeys(part.test.tolist(), predict)
    return found


def _placed(probe: Probe, data: Masked) -> dict[int, Predict]:
    """The mean training mask of each structure, without a look at the frame."""
    found: dict[int, Predict] = {}
    for part in probe.parts:
        means = mean_masks(data.examples, part.pool)
        found |= dict.fromkeys(part.test.tolist(), lambda row, means=means: means)
    return found


def _answers(probe: Probe, data: Masked, predicted: Mapping[int, Predict]) -> pd.DataFrame:
    """One row per tested frame and structure: its agreement, or what was drawn in vain."""
    rows: list[dict[str, Any]] = []
    with progress("scoring masks", len(predicted)) as advance:
        for row in sorted(predicted):
            frame = data.frames.iloc[row]
            size = int(frame["height"]), int(frame["width"])
            spacing = (float(frame["row_spacing_mm"]), float(frame["col_spacing_mm"]))
            known = None if np.isnan(spacing).any() else spacing
            maps = dict(zip(data.structures, predicted[row](row), strict=True))
            for structure, truth in data.truth(row).items():
                found = in_frame(maps[structure], *size) > 0.5
                rows.append(
                    {
                        "structure": structure,
                        "cluster": int(probe.clusters[row]),
                        "shown": bool(truth.any()),
                        "drawn": bool(found.any()),
                        **_numbers(agreement(found, truth, known) if truth.any() else None),
                    }
                )
            advance(1)
    return pd.DataFrame(rows)


def _numbers(found: Agreement | None) -> dict[str, float]:
    names = Agreement.__dataclass_fields__
    return dict.fromkeys(names, np.nan) if found is None else asdict(found)


def _summary(table: pd.DataFrame, how: Draws) -> dict[str, Any]:
    """Means over structures of the frames that show them, and the false alarms in the others.

    Distances are means over the frames with a pixel spacing.
    """
    shown, absent = table[table["shown"]], table[~table["shown"]]
    summary: dict[str, Any] = {
        "images": len(shown),
        "clusters": shown["cluster"].nunique(),
        "with_spacing": int(shown["hd95_mm"].notna().sum()),
        "absent": len(absent),
        "both_empty": int((~absent["drawn"]).sum()),
        "false_alarms": float(absent["drawn"].mean()) if len(absent) else None,
    }
    for name in Agreement.__dataclass_fields__:
        summary[name] = _interval(shown[shown[name].notna()], name, how).as_dict()
    return summary


def _interval(rows: pd.DataFrame, name: str, how: Draws) -> Interval:
    if rows.empty:
        return Interval(np.nan, np.nan, np.nan)
    classes, clusters = (
        np.unique(rows[column].to_numpy(), return_inverse=True)[1]
        for column in ("structure", "cluster")
    )
    statistic = MACRO if classes.any() else NUMBER
    return clustered_interval(rows[name].to_numpy(np.float64), classes, clusters, statistic, how)


def _tables(name: str, label: str, rows: Mapping[str, Mapping[str, Any]]) -> list[ResultTable]:
    """The shares in percent, and the border distance in mm."""

    def cells(columns: tuple[str, ...]) -> tuple[Cell, ...]:
        return tuple(
            Cell(title, column, _value(row[column]), _sizes(row))
            for title, row in rows.items()
            for column in columns
        )

    return [
        ResultTable(name, (label, "metric"), PERCENT, cells((*SHARES, "false_alarms"))),
        ResultTable(f"{name}_hd95", (label, "metric"), MM, cells(("hd95_mm",))),
    ]


def _value(value: Any) -> Interval:
    return Interval.from_dict(value) if isinstance(value, dict) else exact(value)


def _sizes(row: Mapping[str, Any]) -> dict[str, int]:
    return {"masks": row["images"], "patients": row["clusters"]}


def _sentence(overall: Mapping[str, Mapping[str, Any]]) -> str:
    values = {name: _value(row["dice"]) for name, row in overall.items()}
    linear = overall[LINEAR]
    return (
        f"A linear decoder of frozen maps outlines the structures with Dice "
        f"{PERCENT.text(values[LINEAR])} % (an untrained encoder "
        f"{PERCENT.point(values[UNTRAINED])}, the mean mask without a frame "
        f"{PERCENT.point(values[PLACE])}); {linear['with_spacing']} of {linear['images']} masks "
        "have a pixel spacing and distances in mm."
    )
