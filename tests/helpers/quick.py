"""Settings for runs that train in seconds."""

from typing import Any

from sono.training.config import TrainingConfig

CLIP_TEXT: dict[str, Any] = {"text": "clip"}
# Pairs are mixed, and a pair's own caption alone is right.
MIXED: dict[str, Any] = {
    "region_weight": 0.0, "regions_per_frame": 1, "region_prompts": 0.0, "targets": "identity",
    "global_fraction": 0.8,
    "mask_rate": 1.0,
}  # fmt: skip


def quick(**changes: Any) -> TrainingConfig:
    """Settings with the given model and a text transformer from scratch, which needs no wheel."""
    return TrainingConfig(**(CLIP_TEXT | changes))


def mixed(**changes: Any) -> TrainingConfig:
    """Likewise, without separate regions."""
    return quick(**(MIXED | changes))
