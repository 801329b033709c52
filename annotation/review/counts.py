"""How far a review is: masks of the queue and decided ones, also by structure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sono.annotation.review.queue import Item


@dataclass
class Counts:
    """A mask that the reviewer added to the queue counts once it is decided."""

    total: Counter[str] = field(default_factory=Counter)  # by structure, as are the decided ones
    done: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, items: Iterable[Item]) -> "Counts":
        """The counts of a new queue."""
        return cls(Counter(sorted(one.structure for one in items)))

    def add(self, one: Item, change: int) -> None:
        """Count a mask, or take it back (-1), if it is decided."""
        if one.decided is not None:
            self.done[one.structure] += change
            self.actions[one.decided] += change
            self.total[one.structure] += change * one.added

    def shown(self) -> dict[str, Any]:
        """The counts for the page."""
        return {
            "total": self.total.total(),
            "decided": self.actions.total(),
            "actions": dict(+self.actions),
            "structures": {name: [self.done[name], self.total[name]] for name in +self.total},
        }
