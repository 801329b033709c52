"""A few frames of the phantom as files."""

from pathlib import Path

import numpy as np

from sono.curation.core.atomic import write_bytes
from sono.curation.core.frame_files import encode_png
from sono.curation.phantom.anatomy import draw_plane
from sono.curation.phantom.frames import LOOKS, PROBES
from sono.curation.phantom.physics import render


def write_frames(folder: Path, seeds: range) -> None:
    """Write `folder`/IM_SEED.png, a femur, for each of `seeds`."""
    for seed in seeds:
        random = np.random.default_rng(seed)
        drawn = draw_plane("femur", PROBES["A"], 150, random)
        write_bytes(
            folder / f"IM_{seed}.png",
            encode_png(render(drawn.scene, PROBES["A"], LOOKS["A"], random)),
        )
