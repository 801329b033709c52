"""The keys of the review page, which `[review]` in `sono.toml` may change."""

from collections import Counter

from pydantic import Field, field_validator

from sono.curation.core.config import Config
from sono.curation.core.errors import did_you_mean

# What the page can do, and the key of it.
KEYS = {
    "accept": "a",
    "reject": "r",
    "skip": "s",
    "flag": "f",
    "undo": "u",
    "next": "n",
    "previous": "l",
    "next_structure": "k",
    "take_1": "1",
    "take_2": "2",
    "take_3": "3",
    "take_4": "4",
    "other": "w",
    "move": "v",
    "brush": "b",
    "eraser": "x",
    "polygon": "p",
    "ellipse": "e",
    "prompt": "t",
    "others": "o",
    "new_mask": "m",
    "smaller": "[",
    "larger": "]",
    "zoom_in": "+",
    "zoom_out": "-",
    "fit": "0",
    "hide": " ",
    "exclude": "q",
    "caption": "c",
    "help": "?",
}


class ReviewConfig(Config):
    """`[review]` of `sono.toml`: the keys that differ, by what they do."""

    keys: dict[str, str] = Field(default_factory=dict)

    @field_validator("keys")
    @classmethod
    def _check(cls, keys: dict[str, str]) -> dict[str, str]:
        for name, key in keys.items():
            if name not in KEYS:
                raise ValueError(f"unknown key of the page '{name}'{did_you_mean(name, KEYS)}")
            if len(key) != 1 or not key.isprintable():
                raise ValueError(f"{name} = '{key}': give one character")
        counts = Counter(_all(keys).values())
        for key, count in counts.items():
            if count > 1:
                twice = " and ".join(name for name, one in _all(keys).items() if one == key)
                raise ValueError(f"'{key}' is the key of {twice}; give one of them another")
        return keys

    def all_keys(self) -> dict[str, str]:
        """The key of everything that the page can do."""
        return _all(self.keys)


def _all(changed: dict[str, str]) -> dict[str, str]:
    return KEYS | {name: key.lower() for name, key in changed.items()}
