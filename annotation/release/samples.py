"""The samples of a study: accepted frames with their facts, captions and masks."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sono.annotation.captions import in_order
from sono.curation.core.column_values import SPLITS
from sono.curation.core.config import section_values
from sono.curation.core.console import progress
from sono.curation.core.errors import SonoError, counted
from sono.curation.core.frame_files import stored_path, stored_png
from sono.curation.core.tables import Row, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.related_frames import training_rows

UNASSIGNED = "unassigned"  # the split of frames without one
# columns of the images table that a sample has, and their types
FACTS: dict[str, type] = {
    "patient_id": str,
    "study_id": str,
    "center": str,
    "machine": str,
    "region": str,
    "ga_days": int,
    "ga_source": str,
    "laterality": str,
    "presentation": str,
    "findings": list,
    "bpd_mm": float,
    "hc_mm": float,
    "ac_mm": float,
    "fl_mm": float,
    "crl_mm": float,
    "nt_mm": float,
    "row_spacing_mm": float,
    "col_spacing_mm": float,
    "duplicate_group": str,
    "reasons": list,
}


@dataclass(frozen=True)
class Region:
    """A mask of a frame: COCO run lengths of its pixels, its origin, and its captions."""

    mask_id: str
    structure: str
    counts: str
    state: str
    source: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """A frame, its `facts` by the names of FACTS (None: unknown), its captions and masks."""

    image_id: str
    path: Path  # of the stored PNG
    height: int
    width: int
    split: str
    plane: str | None
    facts: dict[str, Any]
    captions: tuple[str, ...]
    regions: tuple[Region, ...]
    held_out: bool | None = None  # of training; None: the settings hold out no center

    def png(self) -> bytes:
        """The bytes of the stored frame; raises SonoError if it is missing or damaged."""
        return stored_png(self.path)


@dataclass(frozen=True)
class SampleSet:
    """All samples, by image id, with what was left out."""

    samples: tuple[Sample, ...]
    masks_left_out: int  # not in the wanted states
    without_caption: int
    hold_out: tuple[str, ...] = ()  # centers that the settings hold out of training

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have samples, in their usual order."""
        present = {sample.split for sample in self.samples}
        return tuple(name for name in (*SPLITS, UNASSIGNED) if name in present)

    def of(self, split: str) -> Sequence[Sample]:
        """The samples of a split."""
        return [sample for sample in self.samples if sample.split == split]

    def walk(self, split: str, title: str) -> Iterator[Sample]:
        """The samples of a split, with a progress bar."""
        own = self.of(split)
        with progress(title, len(own)) as advance:
            for sample in own:
                yield sample
                advance()


def held_out_centers(workspace: Workspace) -> tuple[str, ...]:
    """The centers that `[training] hold_out` of `sono.toml` keeps out of training."""
    return tuple(section_values(workspace.config_path, "training").get("hold_out", ()))


def samples_of(workspace: Workspace, states: Collection[str]) -> SampleSet:
    """The accepted frames of a study, with the masks in one of `states`.

    Raises SonoError if there is no caption at all, or a mask has another size than its frame.
    """
    images = workspace.accepted_images().drop_duplicates("image_id").sort_values("image_id")
    captions = in_order(workspace, workspace.captions())
    texts: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for row in rows_of(captions[["image_id", "mask_id", "text"]]):
        texts[row["image_id"], row["mask_id"]].append(row["text"])
    masks = workspace.masks()
    usable = masks[(masks["state"] != "rejected") & masks["image_id"].isin(images["image_id"])]
    wanted = usable[usable["state"].isin(list(states))]
    own: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(wanted.sort_values(["structure", "mask_id"], kind="stable")):
        own[row["image_id"]].append(row)
    hold_out = held_out_centers(workspace)
    trained = set(training_rows(images, hold_out)["image_id"])
    samples = [
        replace(
            _sample(workspace, row, texts, own[row["image_id"]]),
            held_out=row["image_id"] not in trained if hold_out else None,
        )
        for row in rows_of(
            images[["image_id", "file", "height", "width", "split", "plane", *FACTS]]
        )
    ]
    return SampleSet(
        tuple(samples),
        len(usable) - len(wanted),
        sum(not sample.captions for sample in samples),
        hold_out,
    )


def _sample(
    workspace: Workspace,
    row: Row,
    texts: dict[tuple[str, str | None], list[str]],
    masks: list[Row],
) -> Sample:
    height, width = int(row["height"]), int(row["width"])
    for mask in masks:
        if (mask["height"], mask["width"]) != (height, width):
            raise SonoError(
                f"mask {mask['mask_id']} of frame {row['image_id']} is {mask['height']} x "
                f"{mask['width']} pixels, the frame {height} x {width}; import or propose it again"
            )
    image_id = row["image_id"]
    return Sample(
        image_id=image_id,
        path=stored_path(workspace, row["file"]),
        height=height,
        width=width,
        split=_text(row["split"]) or UNASSIGNED,
        plane=_text(row["plane"]),
        facts={name: _fact(row[name], kind) for name, kind in FACTS.items()},
        captions=tuple(texts.get((image_id, None), ())),
        regions=tuple(
            Region(
                mask["mask_id"],
                mask["structure"],
                mask["counts"],
                mask["state"],
                mask["source"],
                tuple(texts.get((image_id, mask["mask_id"]), ())),
            )
            for mask in masks
        ),
    )


def _fact(value: Any, kind: type) -> Any:
    """A cell as a plain Python value; None where it is missing, [] for a missing list."""
    if kind is list:
        return [] if value is None or value is pd.NA else [str(one) for one in value]
    return None if pd.isna(value) else kind(value)


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def left_out(found: SampleSet) -> list[str]:
    """Remarks on what an export lacks."""
    remarks = []
    if found.masks_left_out:
        remarks.append(
            f"{counted(found.masks_left_out, 'mask was', 'masks were')} not reviewed and left out; "
            "--proposed exports them, too"
        )
    if found.without_caption:
        remarks.append(
            f"{counted(found.without_caption, 'frame has', 'frames have')} no caption; "
            "`sono captions build` says why"
        )
    return remarks


def captions_alone(found: SampleSet) -> tuple[SampleSet, list[str]]:
    """What a layout of pictures and captions has a place for, and remarks on the rest."""
    masks = sum(len(sample.regions) for sample in found.samples)
    kept = tuple(replace(sample, regions=()) for sample in found.samples if sample.captions)
    remarks = []
    if masks:
        remarks.append(f"{counted(masks, 'mask has', 'masks have')} no place in this layout")
    if kept and len(kept) < len(found.samples):
        missing = counted(len(found.samples) - len(kept), "frame")
        remarks.append(f"{missing} without a caption not written: a row of this layout is one")
    return replace(found, samples=kept), remarks
