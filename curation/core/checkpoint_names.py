"""Names that training scripts add around the weights of a checkpoint.

These are container keys, prefixes of wrappers, and code in pickles.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import Any

CONTAINERS = ("state_dict", "model_state_dict", "model")
# What readers of torch and zip raise of a file that is damaged or of another kind.
DAMAGED = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    OverflowError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
# Of DistributedDataParallel, torch.compile and Lightning.
WRAPPERS = ("module.", "_orig_mod.", "model.")


def opened(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights of a checkpoint, without the containers around them.

    A container is the first of CONTAINERS that the content has, perhaps nested.
    """
    for _ in CONTAINERS:  # a pickle may hold itself
        inner = next(
            (content[name] for name in CONTAINERS if isinstance(content.get(name), Mapping)), None
        )
        content = content if inner is None else inner
    return content


def unwrapped(weights: Mapping[str, Any]) -> dict[str, Any]:
    """`weights` without the wrapper prefixes that all of their names share."""
    named = {str(name): value for name, value in weights.items()}
    while named:
        prefix = next(
            (
                one
                for one in WRAPPERS
                if all(name.startswith(one) and name != one for name in named)
            ),
            None,
        )
        if prefix is None:
            break
        named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def asked_for(error: Exception) -> str:
    """The code that a refused pickle asks for, in parentheses, or "".

    Torch's own message advises to run that code.
    """
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" (it asks for {found.group(1)})" if found else ""
