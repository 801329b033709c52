"""The report of a study: `report.html` with counts, plots and example frames."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from sono.annotation.overlays import draw_masks
from sono.annotation.review.quality import review_report
from sono.annotation.review.verdicts import DIFFERENT
from sono.curation.clinical.gestational_age import weeks_and_days
from sono.curation.core.atomic import write_text
from sono.curation.core.column_values import MASK_STATES, SPLITS, TRAINED_STATES
from sono.curation.core.config import section_values
from sono.curation.core.drawing import LEGEND, contact_sheet
from sono.curation.core.frame_files import read_stored, stored_path
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS, usable_captions
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.caption_plot import figure_captions
from sono.curation.dataset.flow_plot import figure_flow
from sono.curation.dataset.named_structures import named_structures
from sono.curation.dataset.plots import figure_planes_and_age
from sono.curation.dataset.statistics import (
    IMAGE_COLUMNS,
    PERCENTILES,
    UNSPLIT,
    Statistics,
    compute_statistics,
)
from sono.curation.privacy.gate import check_privacy
from sono.templates.reports import data_uri, render_report

REPORT_NAME = "report.html"
MAX_EXAMPLES = 24
EXAMPLE_SIDE = 160
EXAMPLE_COLUMNS = 6


def write_statistics_report(workspace: Workspace) -> tuple[Statistics, Path]:
    """Count the study's tables and write report.html into its root.

    Raises PrivacyError if something private is found.
    """
    planes = workspace.planes()
    images, masks = workspace.images([*IMAGE_COLUMNS, "file"]), workspace.masks()
    states = section_values(workspace.config_path, "training").get("mask_states", TRAINED_STATES)
    trained = tuple(state for state in MASK_STATES if state in states)
    captions = workspace.read(CAPTIONS)
    stats = compute_statistics(images, masks, captions, planes, trained)
    path = workspace.root / REPORT_NAME
    examples = _example_sheet(workspace, images, masks, planes)
    write_text(path, _statistics_page(workspace, stats, planes, captions, examples))
    check_privacy(workspace)
    return stats, path


def _statistics_page(
    workspace: Workspace,
    stats: Statistics,
    planes: PlaneTable,
    captions: pd.DataFrame,
    examples: bytes,
) -> str:
    splits = [name for name in (*SPLITS, UNSPLIT) if stats.plane[name].sum()]
    shown = stats.plane[stats.plane["frames"] > 0].sort_values(
        "frames", ascending=False, kind="stable"
    )
    counts, usable = ["frames", *splits], usable_captions(captions)
    return render_report(
        "statistics.html.j2",
        study=workspace.study().name,
        stats=stats.as_dict(),
        age_range=stats.age_range,
        planes=shown.to_dict("records"),
        plane_total={"name": "all", **{name: int(shown[name].sum()) for name in counts}},
        planes_shown=int(shown["plane"].isin(list(planes.by_id)).sum()),
        split_columns=[[name, "no split" if name == UNSPLIT else name] for name in splits],
        regions=[{"region": region, "frames": frames} for region, frames in stats.region.items()],
        mask_columns=[
            [state, f"{state} (trained on)" if state in stats.trained_states else state]
            for state in MASK_STATES
        ],
        reviews=review_report(workspace),
        different=DIFFERENT,
        caption_count=int(stats.captions[["full", "partial", "label"]].to_numpy().sum()),
        decimals=dict.fromkeys((f"p{percent}" for percent in PERCENTILES), "decimal"),
        flow=data_uri(figure_flow(stats)),
        named=named_structures(usable, planes),
        words=data_uri(figure_captions(usable)) if len(usable) else "",
        planes_and_age=data_uri(figure_planes_and_age(stats, planes)),
        examples=data_uri(examples) if examples else "",
        examples_width=Image.open(BytesIO(examples)).width if examples else None,
        example_words="Taken evenly from the planes, with the masks that are not rejected.",
    )


def _example_sheet(
    workspace: Workspace, images: pd.DataFrame, masks: pd.DataFrame, planes: PlaneTable
) -> bytes:
    """Frames of every plane with their masks; empty bytes where no frame is stored."""
    tiles, structures = [], []
    for row in _choose_examples(images, planes).itertuples():
        path = stored_path(workspace, str(row.file))
        if path.is_file():  # a frame that is gone costs the report an example, no more
            gray = read_stored(path)
            own = masks[(masks["image_id"] == row.image_id) & (masks["state"] != "rejected")]
            fitting = own[(own["height"] == gray.shape[0]) & (own["width"] == gray.shape[1])]
            picture, names = draw_masks(gray, fitting)
            tiles.append((picture, _example_caption(row, planes)))
            structures.append(names)
    if not tiles:
        return b""
    return contact_sheet(tiles, EXAMPLE_COLUMNS, EXAMPLE_SIDE, LEGEND, structures)


def _choose_examples(images: pd.DataFrame, planes: PlaneTable) -> pd.DataFrame:
    """At most 24 accepted frames: one of each plane, then a second of each.

    The planes are in the order of the plane table.
    """
    stored = images[(images["status"] == "accepted") & images["file"].notna()].sort_values(
        "image_id", kind="stable"
    )
    stored = stored.drop_duplicates("image_id")
    order = {plane_id: rank for rank, plane_id in enumerate(planes.by_id)}
    turn = stored.groupby("plane", dropna=False).cumcount()
    rank = stored["plane"].map(order).fillna(len(order)).astype(int)
    chosen = (
        stored.assign(turn=turn, rank=rank)
        .sort_values(["turn", "rank"], kind="stable")
        .head(MAX_EXAMPLES)
    )
    return chosen.sort_values(["rank", "turn"], kind="stable")


def _example_caption(row: Any, planes: PlaneTable) -> str:
    plane = planes.title(row.plane)
    if pd.isna(row.ga_days):
        return plane
    weeks, days = weeks_and_days(int(row.ga_days))
    return f"{plane}\n{weeks}+{days} weeks"
