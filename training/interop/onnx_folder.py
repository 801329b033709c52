"""What makes a folder of ONNX graphs usable without sono: planes, tokens, a page and a script."""

import io
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from sono.curation.core.atomic import write_bytes, write_text
from sono.curation.core.planes import Plane
from sono.templates.loader import CaptionTemplates
from sono.training.model.class_embeddings import class_embeddings
from sono.training.model.mask_clip import MaskClip

PAGES = ("README.md", "run_onnx.py")  # the same for every model, so the privacy gate knows them


def write_planes(
    model: MaskClip, planes: Sequence[Plane], templates: CaptionTemplates, folder: Path
) -> tuple[Path, ...]:
    """Write planes.json, planes.npy and tokens.npy, and the page and script that use them.

    The features are those of `Model.classify`.
    """
    prompts = [templates.render_prompts(plane.name) for plane in planes]
    described = [
        {"id": plane.id, "name": plane.name, "prompts": texts}
        for plane, texts in zip(planes, prompts, strict=True)
    ]
    write_text(folder / "planes.json", json.dumps(described, indent=1, ensure_ascii=False))
    arrays = {
        "planes.npy": class_embeddings(model, prompts).float().numpy(),
        "tokens.npy": model.tokenize([text for texts in prompts for text in texts]).numpy(),
    }
    for name, values in arrays.items():
        content = io.BytesIO()
        np.save(content, values, allow_pickle=False)
        write_bytes(folder / name, content.getvalue())
    for name in PAGES:
        write_bytes(folder / name, files("sono.templates").joinpath("onnx", name).read_bytes())
    return tuple(folder / name for name in ("planes.json", *arrays, *PAGES))
