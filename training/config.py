"""Settings of a training run: section [training] of `sono.toml`, changed by options of `sono train`."""

from typing import Literal

from pydantic import Field

from sono.curation.config import Config
from sono.training.augment import AugmentConfig


class TrainingConfig(Config):
    """Everything that decides a run beside the data; stored whole in the run folder."""

    model: str = "nano"
    image_size: int | None = Field(None, ge=32, le=1024)  # pixels; None: the architecture's own
    epochs: int = Field(50, ge=1)
    batch_size: int = Field(16, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    scale_rate: float = Field(10.0, gt=0)  # learning rate of logit scale and bias over that of the towers
    weight_decay: float = Field(0.05, ge=0)
    warmup_fraction: float = Field(0.05, ge=0, lt=1)  # of all steps
    clip_norm: float = Field(1.0, gt=0)
    global_fraction: float = Field(0.8, ge=0, le=1)
    prompt_fraction: float = Field(0.5, ge=0, le=1)
    plane_balance: float = Field(0.5, ge=0, le=1)  # 0: every frame once an epoch; 1: every plane equally often
    targets: Literal["identity", "caption"] = "identity"
    bias: Literal["published", "auto"] = "published"
    mask_states: tuple[Literal["accepted", "edited", "proposed"], ...] = ("accepted", "edited")
    hold_out: tuple[str, ...] = ()  # centers kept for `sono eval --center`
    validate_every: int = Field(2, ge=1)  # epochs
    seed: int = 0
    augment: AugmentConfig = AugmentConfig()
