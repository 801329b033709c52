"""`sono captions preview`: some captions of each plane with frame, masks, facts and template."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from sono.annotation.caption_facts import Facts, facts_of, listed_structures
from sono.annotation.captioning.lint_report import CaptionLinter, caption_linter
from sono.annotation.captions import in_order
from sono.annotation.overlays import draw_masks
from sono.curation.core.atomic import atomic_path
from sono.curation.core.drawing import structure_color
from sono.curation.core.errors import counted
from sono.curation.core.frame_files import read_stored
from sono.curation.core.tables import rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_file
from sono.templates.reports import data_uri, render_report

if TYPE_CHECKING:
    from rich.console import Group

PICTURE = 320  # longest side in pixels
START = b"<!doctype html>"
MAX_PRINTED = 60  # captions in a terminal, at least one of each frame


@dataclass(frozen=True)
class ShownCaption:
    """A caption, its template set, the values of the fields that it states, and its lint codes."""

    text: str
    mask_id: str | None  # of a region caption
    structure: str | None
    template: str
    tier: str
    tokens: int | None
    state: str | None
    facts: dict[str, Any]
    codes: tuple[str, ...]


@dataclass(frozen=True)
class ShownFrame:
    """A frame with its captions; `file` is the stored frame, below the workspace."""

    plane: str
    image_id: str
    file: str
    captions: tuple[ShownCaption, ...]


@dataclass(frozen=True)
class Preview:
    """Some frames of each plane with their captions, and the page if one was written."""

    frames: tuple[ShownFrame, ...]
    captions: int  # of the study
    page: Path | None = None
    every: bool = False  # print more than MAX_PRINTED captions

    def __rich__(self) -> "Group":
        """The captions for a terminal; with a page, where it is and what it shows."""
        from rich.console import Group
        from rich.text import Text

        return Group(*(Text.assemble(*parts) for parts in self._lines()))

    def _lines(self) -> Iterator[tuple[tuple[str, str], ...]]:
        plane, shown = "", [one for frame in self.frames for one in frame.captions]
        most = max(1, MAX_PRINTED // max(1, len(self.frames)))
        most = 0 if self.page else len(shown) if self.every else most
        for frame in self.frames if most else ():
            if frame.plane != plane:
                plane = frame.plane
                yield ((f"\n{plane}", "bold"),)
            yield ((f"  {frame.file}", "dim"),)
            for one in frame.captions[:most]:
                yield (("    ", ""), (one.text, ""))
                facts = ", ".join(f"{name}={value}" for name, value in one.facts.items())
                about = f"      {one.template}, {one.tier}, {one.tokens} tokens: {facts}"
                yield ((about, "dim"), (f" {' '.join(one.codes)}", "red"))
            if more := len(frame.captions[most:]):
                yield ((f"    and {counted(more, 'more caption')}; --all prints all", "dim"),)
        planes = counted(len({frame.plane for frame in self.frames}), "plane")
        odd = sum(bool(one.codes) for one in shown)
        place = f"{self.page}: " if self.page else "\n"
        of = f"{counted(len(self.frames), 'frame')} and {planes}"
        yield ((f"{place}{len(shown)} of {counted(self.captions, 'caption')}, of {of}", ""),)
        if odd:
            yield ((f"{odd} of them with codes of the lint; sono captions lint explains", "red"),)


def preview_captions(
    workspace: Workspace,
    count: int = 2,
    page: Path | None = None,
    no_vault: bool = False,
    every: bool = False,
) -> Preview:
    """Up to `count` frames of each plane with all of their captions; with `page`, an HTML page.

    Image ids are hashes, so the first ones are a fixed random draw. The page is searched for
    private strings: PrivacyError if one is found, SonoError without the vault unless `no_vault`.
    """
    if page:
        workspace.require_vault(no_vault)
        workspace.check_output(page, START)
    captions = in_order(workspace, workspace.captions())
    images = workspace.accepted_images()
    linter = caption_linter(workspace, images)
    masks = workspace.masks()
    masks = masks[masks["state"] != "rejected"]
    chosen = _chosen(images[images["image_id"].isin(captions["image_id"])], linter, count)
    own = captions[captions["image_id"].isin(chosen["image_id"])]
    drawn = dict(iter(masks.groupby("image_id")))
    none = masks.iloc[:0]
    shown = tuple(
        _frame(row, facts, own, drawn.get(row["image_id"], none), linter)
        for row, (_, facts) in zip(rows_of(chosen), facts_of(chosen), strict=True)
    )
    preview = Preview(shown, len(captions), page, every)
    if page:
        _write_page(workspace, page, preview, drawn)
    return preview


def _chosen(images: pd.DataFrame, linter: CaptionLinter, count: int) -> pd.DataFrame:
    """The first frames of each plane, in the order of the plane table."""
    images = images.drop_duplicates("image_id").sort_values("image_id", kind="stable")
    order = {plane_id: place for place, plane_id in enumerate(linter.writer.rules.planes.by_id)}
    rank = images["plane"].map(order).fillna(len(order)).astype(int)
    chosen = images.assign(rank=rank).groupby("plane", dropna=False, sort=False).head(count)
    return chosen.sort_values(["rank", "image_id"], kind="stable").drop(columns="rank")


def _frame(
    row: dict[str, Any],
    facts: Facts,
    captions: pd.DataFrame,
    masks: pd.DataFrame,
    linter: CaptionLinter,
) -> ShownFrame:
    structures = dict(zip(masks["mask_id"], masks["structure"], strict=True))
    masked = tuple(sorted(set(structures.values())))
    planes = linter.writer.rules.planes
    own = captions[captions["image_id"] == row["image_id"]]
    found = []
    for caption in rows_of(own):
        if caption["mask_id"] is not None and caption["mask_id"] not in structures:
            continue  # `sono captions lint` names it
        structure = structures.get(caption["mask_id"])
        codes = linter.codes(caption["text"], facts._replace(structure=structure), masked)
        listed = listed_structures(facts.plane, facts.structures, masked, planes)
        values = linter.writer.values(facts._replace(structure=structure, structures=listed))
        fields = caption["fields"] if caption["fields"] is not None else ()
        stated = {name: values.get(name) for name in fields}
        about = (caption["template"], caption["tier"], caption["tokens"], caption["state"])
        own_mask = (caption["mask_id"], structure)
        found.append(ShownCaption(caption["text"], *own_mask, *about, stated, codes))
    return ShownFrame(planes.title(row["plane"]), row["image_id"], row["file"], tuple(found))


def _write_page(
    workspace: Workspace, page: Path, preview: Preview, masks: dict[Any, pd.DataFrame]
) -> None:
    planes: dict[str, list[dict[str, Any]]] = {}
    for frame in preview.frames:
        gray = read_stored(workspace.root / frame.file)
        picture: NDArray[np.uint8] = np.repeat(gray[..., None], 3, axis=2)
        names: list[str] = []
        if frame.image_id in masks:
            picture, names = draw_masks(gray, masks[frame.image_id])
        colors = [(name, "#{:02x}{:02x}{:02x}".format(*structure_color(name))) for name in names]
        scale = PICTURE / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        buffer = BytesIO()
        Image.fromarray(np.asarray(small, np.uint8)).save(buffer, "PNG")
        tile = {"frame": frame, "picture": data_uri(buffer.getvalue()), "masks": colors}
        planes.setdefault(frame.plane, []).append(tile)
    shown = sum(len(frame.captions) for frame in preview.frames)
    text = render_report(
        "captions.html.j2", study=workspace.study().name, planes=planes, shown=shown,
        captions=preview.captions,
    )  # fmt: skip
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
        check_file(workspace, temporary, page.name)
