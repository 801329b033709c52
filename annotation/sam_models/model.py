"""What a promptable model does: encode a frame once, then answer prompts on it."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sono.annotation.proposers import Prompt

Embedding = Mapping[str, NDArray[Any]]  # what the encoder finds in a frame, by name


class SamModel(Protocol):
    """An encoder and a decoder."""

    @property
    def hash(self) -> str:
        """Changes when the masks would."""

    def encode(self, gray: NDArray[np.uint8]) -> Embedding:
        """The embedding of a frame [H, W]."""

    def decode(
        self, embedding: Embedding, size: tuple[int, int], prompt: Prompt
    ) -> tuple[NDArray[np.floating[Any]], float]:
        """The logits [H, W] of the best mask for a prompt, and the quality that the model states.

        `size` is H, W of the frame.
        """
