"""The figure of region control: frames under the masks of several structures, with the answers."""

from collections.abc import Sequence
from pathlib import Path

from sono.curation.core.frame_files import read_stored
from sono.evaluation.examples import pick_masks
from sono.evaluation.plots import Panel, region_plot
from sono.evaluation.predictions import names_of
from sono.evaluation.region_control.measures import TRAINING, RegionFeatures, name_regions
from sono.evaluation.region_control.regions import Regions


def regions_picture(
    regions: Regions, image_ids: Sequence[str], files: Sequence[Path], planes: Sequence[str]
) -> bytes:
    """Real frames under two or three of their masks, with the answers, as PNG bytes.

    The result is empty if no frame has two structures. `planes` [frames] are the names of the
    frames' planes.
    """
    if regions.data is None:
        return b""
    data = regions.data
    answers = {name: _named(data, name) for name in ("own", "all_one")}
    shown: dict[str, list[Panel]] = {}
    for rows in pick_masks(data, image_ids):
        frame = int(data.frame[rows[0]])
        gray = read_stored(files[frame])
        title = f"{planes[frame]}; without a mask: {answers['all_one'][rows[0]]}"
        while title in shown:
            title += " "
        shown[title] = [
            Panel(
                gray,
                regions.masks[row].pixels(),
                data.structures[data.structure[row]],
                answers["own"][row],
            )
            for row in rows
        ]
    return region_plot(shown) if shown else b""


def _named(data: RegionFeatures, condition: str) -> list[str]:
    answers = name_regions(data.features[condition], data.texts[TRAINING], data.in_plane)
    return [name or "undecided" for name in names_of(answers, data.structures)]
