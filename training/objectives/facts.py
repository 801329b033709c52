"""Which texts of a batch are true of which frames, by the fact that each text states."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from sono.training.runtime.distributed import all_gather


@dataclass(frozen=True)
class Facts:
    """The facts of n pairs as numbers that are equal in every process.

    A text is true of a frame if the fact that it `stated` is one of those that are `true` of the
    frame under its mask: a short one, and its captions. `regional` separates region pairs from
    whole-frame pairs.
    """

    stated: Tensor  # [n]
    true: Tensor  # [n, k]
    regional: Tensor  # [n], bool

    @classmethod
    def of(
        cls, stated: Sequence[str], true: Sequence[tuple[str, ...]], regional: Sequence[bool]
    ) -> "Facts":
        """Facts from their names."""
        columns = zip(*true, strict=True)
        pairs = torch.stack([numbers(names) for names in columns], dim=1)
        return cls(numbers(stated), pairs, torch.tensor(regional, dtype=torch.bool))

    def at(self, rows: slice) -> "Facts":
        """A selection of the pairs."""
        return Facts(self.stated[rows], self.true[rows], self.regional[rows])

    def to(self, device: torch.device) -> "Facts":
        """The same on `device`."""
        return Facts(self.stated.to(device), self.true.to(device), self.regional.to(device))

    def gathered(self) -> "Facts":
        """The facts of all processes."""
        return Facts(
            all_gather(self.stated), all_gather(self.true), all_gather(self.regional.long()).bool()
        )


def numbers(names: Sequence[str], device: torch.device | None = None) -> Tensor:
    """A number for each name [n], equal for equal names in every process."""
    digests = [
        int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
        for name in names
    ]
    return torch.tensor(digests, dtype=torch.long, device=device)
