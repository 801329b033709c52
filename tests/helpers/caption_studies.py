"""Studies with tables alone, to write captions of."""

from pathlib import Path

from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace


def image(image_id: str, **values: object) -> dict[str, object]:
    row = {
        "image_id": image_id,
        "source_id": image_id,
        "frame": 0,
        "status": "accepted",
        "center": "St. Anna",
    }
    return row | values


def mask(image_id: str, structure: str, state: str = "accepted") -> dict[str, object]:
    box = dict.fromkeys(("box_x", "box_y", "box_width", "box_height", "area"), 1)
    name = {
        "mask_id": f"{image_id}-{structure}",
        "image_id": image_id,
        "structure": structure,
        "counts": "04",
    }
    return name | box | {"height": 2, "width": 2, "source": "manual", "state": state}


def study(root: Path, images: list[dict[str, object]], masks: list[dict[str, object]]) -> Workspace:
    workspace = Workspace.create(root / "study")
    workspace.write(IMAGES, from_rows(IMAGES, images))
    workspace.write(MASKS, from_rows(MASKS, masks))
    return workspace
