"""Draw docs/picture.png: a synthetic frame, its sector, its masks and its caption.

Usage: python docs/make_picture.py
"""

import os
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import sono
from sono.annotation.captions import build_captions
from sono.annotation.mask_import import import_masks
from sono.curation.core.engine import Engine
from sono.curation.core.tables import read_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.study import make_phantom
from sono.curation.qc import QcOptions, run_qc

PICTURE = Path(__file__).parent / "picture.png"
PLANE = "transthalamic"
COLORS = ("tab:orange", "tab:cyan", "tab:green", "tab:pink")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        export, workspace = Path(folder) / "export", Workspace.create(Path(folder) / "study")
        make_phantom(export, 6, 6)
        options = QcOptions(export / "raw", export / "records.csv", center_from="Hospital")
        run_qc(workspace, options, Engine(jobs=1))
        import_masks(workspace, export / "masks.coco.json")
        build_captions(workspace)
        draw(workspace)


def draw(workspace: Workspace) -> None:
    """Draw the first accepted frame of the plane that has masks."""
    study = sono.Study(workspace.root)
    images = study.images
    masked = images.image_id.isin(study.masks.image_id)
    row = images[(images.status == "accepted") & (images.plane == PLANE) & masked].iloc[0]
    sources = read_table(workspace.sources_path, SOURCES).set_index(["source_id", "frame"])
    path = os.fsdecode(sources.loc[(row.source_id, row.frame), "path"])
    read = sono.read_image(path)[row.frame]
    masks = study.masks[study.masks.image_id == row.image_id]
    captions = study.captions[study.captions.image_id == row.image_id]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    for axis, title in zip(axes, ("1. file", "2. sector", "3. frame and masks"), strict=True):
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    axes[0].imshow(read.gray, cmap="gray")
    axes[1].imshow(read.gray, cmap="gray")
    axes[1].imshow(np.where(read.sector.inside, np.nan, 1), cmap="autumn", alpha=0.35)
    axes[2].imshow(study.frame(row.image_id), cmap="gray")
    for color, mask in zip(COLORS, masks.itertuples(), strict=False):
        inside = study.mask(mask.mask_id).astype(float)
        axes[2].contour(inside, [0.5], colors=color, linewidths=1.5)
        axes[2].plot([], color=color, label=mask.structure)
    axes[2].legend(fontsize=7, loc="upper right", framealpha=0.5)
    whole = captions[captions.mask_id.map(pd.isna)].text.iloc[0]
    figure.supxlabel("4. caption: " + textwrap.fill(whole, 120), fontsize=10)
    figure.savefig(PICTURE, dpi=90, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
