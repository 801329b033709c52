"""Settings of an evaluation: section [evaluation] of `sono.toml`."""

from typing import Literal

from pydantic import Field, field_validator

from sono.curation.core.config import MAX_SEED, Config
from sono.curation.core.errors import did_you_mean
from sono.evaluation.modes import MODES


class FineTuneConfig(Config):
    """`[evaluation.fine_tune]`: how `sono probe --fine-tune` trains an encoder on labels."""

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=16, ge=2)
    learning_rates: tuple[float, ...] = (1e-4, 1e-3)
    weight_decay: float = Field(default=0.05, ge=0)

    @field_validator("learning_rates")
    @classmethod
    def _are_rates(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not rates or min(rates) <= 0:
            raise ValueError("give one rate or several, each above 0, as in [1e-4, 1e-3]")
        return rates


class EvaluationConfig(Config):
    """`[evaluation]` of `sono.toml`: how frames are encoded and how intervals are drawn."""

    batch_size: int = Field(64, ge=1)
    bootstrap_draws: int = Field(2000, ge=100)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    modes: tuple[str, ...] = MODES
    region_evidence: Literal["max", "mean", "posterior"] = "max"
    # of proposed regions; None: chosen on validation frames
    region_weight: float | None = Field(None, ge=0)
    fine_tune: FineTuneConfig = FineTuneConfig()

    @field_validator("modes")
    @classmethod
    def _known_modes(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        for mode in modes:
            if mode not in MODES:
                raise ValueError(f"unknown mode '{mode}'{did_you_mean(mode, MODES)}")
        # all-one is what every other mode is compared with
        return tuple(mode for mode in MODES if mode in {*modes, "all_one"})
