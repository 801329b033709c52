"""The settings of the segmenter."""

from pydantic import Field

from sono.curation.core.config import MAX_SEED, Config


class SegmenterConfig(Config):
    """`[segmenter]` in sono.toml: how `sono masks train` learns."""

    image_size: int = Field(192, ge=64, le=1024, multiple_of=32)  # pixels of the square
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(8, ge=2)
    rate: float = Field(2e-3, gt=0)  # learning rate of the decoder
    trunk_rate: float = Field(0.3, ge=0)  # that of the encoder over that of the decoder
    seed: int = Field(0, ge=0, le=MAX_SEED)
