"""Settings of a training run: section [training] of `sono.toml`, changed by options of `sono train`."""

from typing import Literal

from pydantic import Field

from sono.curation.config import Config


class AugmentConfig(Config):
    """Ranges from which each sample draws uniformly; zero switches a change off."""

    rotation_degrees: float = 20.0
    scale: float = 0.2  # zoom between 1 - scale and 1 + scale
    shift: float = 0.06  # of the side
    flip: bool = True  # left-right, never where the caption says left or right
    gain: float = 0.3  # factor between 1 - gain and 1 + gain
    gamma: float = 0.3  # exponent between 1 - gamma and 1 + gamma
    speckle: float = 0.08  # standard deviation of multiplicative noise
    grain: float = 0.0  # share, up to which that noise is twice as coarse, as on another machine
    blur: float = 0.0  # share, up to which a frame is mixed with its average over 3 x 3 pixels


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
