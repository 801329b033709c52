"""HTML reports: one self-contained file each, that loads nothing and runs nothing."""

from base64 import b64encode
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from sono import __version__
from sono.curation.drawing import contact_sheet, overlay
from sono.curation.planes import PlaneTable
from sono.curation.plots import figure_planes_and_age
from sono.curation.privacy import check_privacy
from sono.curation.rle import decode
from sono.curation.statistics import DAYS_A_WEEK, IMAGE_COLUMNS, PERCENTILES, UNSPLIT, Statistics, compute_statistics
from sono.curation.storage import write_text
from sono.curation.stored import read_stored, stored_path
from sono.curation.tables import CAPTIONS, SPLITS
from sono.curation.workspace import Workspace

REPORT_NAME = "report.html"
MAX_EXAMPLES = 24
EXAMPLE_SIDE = 160
EXAMPLE_COLUMNS = 6


def render_report(template: str, **values: Any) -> str:
    """A report from `templates/reports/<template>`; every value is escaped, and a value that is missing is an error."""
    return _environment().get_template(template).render(sono_version=__version__, **values)


def data_uri(png: bytes) -> str:
    """A PNG as the address of an `img`."""
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": _percent, "decimal": _decimal}
    return environment


def _number(value: float) -> str:
    """1234567 as 1,234,567; a number that is not whole with three digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def _percent(share: float) -> str:
    """0.1234 as 12.3 %; a share above zero never reads as zero."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _decimal(value: float) -> str:
    """A measure: three decimals below 1, fewer above, none where it is whole."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.3f}"


def write_statistics_report(workspace: Workspace) -> tuple[Statistics, Path]:
    """Count the study's tables and write report.html into its root; PrivacyError where something private is found."""
    planes = workspace.planes()
    images, masks = workspace.images([*IMAGE_COLUMNS, "file"]), workspace.masks()
    stats = compute_statistics(images, masks, workspace.read(CAPTIONS), planes)
    path = workspace.root / REPORT_NAME
    write_text(path, _statistics_page(workspace, stats, planes, _example_sheet(workspace, images, masks, planes)))
    check_privacy(workspace)
    return stats, path


def _statistics_page(workspace: Workspace, stats: Statistics, planes: PlaneTable, examples: bytes) -> str:
    splits = [name for name in (*SPLITS, UNSPLIT) if stats.plane[name].sum()]
    shown = stats.plane[stats.plane["frames"] > 0].sort_values("frames", ascending=False, kind="stable")
    counts = ["frames", *splits]
    return render_report(
        "statistics.html.j2",
        study=workspace.study().name,
        stats=stats.as_dict(),
        planes=shown.to_dict("records"),
        plane_total={"name": "all", **{name: int(shown[name].sum()) for name in counts}},
        planes_shown=int(shown["plane"].isin(list(planes.by_id)).sum()),
        split_columns=[[name, "no split" if name == UNSPLIT else name] for name in splits],
        regions=[{"region": region, "frames": frames} for region, frames in stats.region.items()],
        caption_count=int(stats.captions[["full", "partial", "label"]].to_numpy().sum()),
        decimals=dict.fromkeys((f"p{percent}" for percent in PERCENTILES), "decimal"),
        planes_and_age=data_uri(figure_planes_and_age(stats, planes)),
        examples=data_uri(examples) if examples else "",
        examples_width=Image.open(BytesIO(examples)).width if examples else None,
        example_words="Taken evenly from the planes, with the masks that are not rejected.",
    )


def _example_sheet(workspace: Workspace, images: pd.DataFrame, masks: pd.DataFrame, planes: PlaneTable) -> bytes:
    """Frames of every plane with their masks; empty bytes where no frame is stored."""
    tiles = []
    for row in _choose_examples(images, planes).itertuples():
        path = stored_path(workspace, str(row.file))
        if path.is_file():  # a frame that is gone costs the report an example, no more
            gray = read_stored(path)
            own = masks[(masks["image_id"] == row.image_id) & (masks["state"] != "rejected")]
            tiles.append((overlay(gray, _decode(own, gray.shape)), _words(row, planes)))
    return contact_sheet(tiles, EXAMPLE_COLUMNS, EXAMPLE_SIDE) if tiles else b""


def _choose_examples(images: pd.DataFrame, planes: PlaneTable) -> pd.DataFrame:
    """At most 24 accepted frames: one of each plane, then a second of each, in the order of the plane table."""
    stored = images[(images["status"] == "accepted") & images["file"].notna()].sort_values("image_id", kind="stable")
    stored = stored.drop_duplicates("image_id")
    order = {plane_id: rank for rank, plane_id in enumerate(planes.by_id)}
    turn = stored.groupby("plane", dropna=False).cumcount()
    rank = stored["plane"].map(order).fillna(len(order)).astype(int)
    chosen = stored.assign(turn=turn, rank=rank).sort_values(["turn", "rank"], kind="stable").head(MAX_EXAMPLES)
    return chosen.sort_values(["rank", "turn"], kind="stable")


def _decode(masks: pd.DataFrame, shape: tuple[int, ...]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Structure and mask [H, W] of a frame; one of another size is left out."""
    fitting = masks[(masks["height"] == shape[0]) & (masks["width"] == shape[1])]
    pairs = zip(fitting["structure"], fitting["counts"], strict=True)
    return [(str(structure), decode(counts, shape[0], shape[1])) for structure, counts in pairs]


def _words(row: Any, planes: PlaneTable) -> str:
    plane = planes.by_id[row.plane].name if row.plane in planes.by_id else "no standard plane"
    if pd.isna(row.ga_days):
        return plane
    weeks, days = divmod(int(row.ga_days), DAYS_A_WEEK)
    return f"{plane}\n{weeks}+{days} weeks"
