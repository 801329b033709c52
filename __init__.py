"""From raw fetal ultrasound to an image-text-mask dataset and a compact CLIP model.

`import sono` loads nothing heavy: each name of `__all__` is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sono.curation.core.errors import SonoError
    from sono.curation.dataset.study import Study
    from sono.curation.imaging.read_image import ImageFrame, read_image
    from sono.evaluation.prediction.model import Model, load_model
    from sono.training.model.checkpoints import load_sonoclip

__version__ = "0.1.0"

__all__ = [
    "ImageFrame",
    "Model",
    "SonoError",
    "Study",
    "load_model",
    "load_sonoclip",
    "read_image",
]

_PLACES = {
    "ImageFrame": "sono.curation.imaging.read_image",
    "Model": "sono.evaluation.prediction.model",
    "SonoError": "sono.curation.core.errors",
    "Study": "sono.curation.dataset.study",
    "load_model": "sono.evaluation.prediction.model",
    "load_sonoclip": "sono.training.model.checkpoints",
    "read_image": "sono.curation.imaging.read_image",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'sono' has no attribute '{name}'")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
