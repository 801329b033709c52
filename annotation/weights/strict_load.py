"""Load third-party weights into a module: all of them, or one error that names the mismatches."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sono.curation.core.errors import SonoError


def load_strictly(
    module: nn.Module, weights: Mapping[str, Tensor], source: str, own: Iterable[str] = ()
) -> None:
    """Copy `weights` into `module`, except for names with a prefix in `own`.

    `source` starts the error message. SonoError lists the names that are missing, left over, of
    another shape or not finite; then the module is unchanged.
    """
    prefixes = tuple(own)
    wanted = {
        name: value for name, value in module.state_dict().items() if not name.startswith(prefixes)
    }
    problems = mismatches(wanted, weights)
    if problems:
        raise SonoError(
            f"{source}: not the weights of this {type(module).__name__}: {problems}; choose "
            "another file"
        )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(weights[name])


def mismatches(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """A phrase with the names of `weights` that are missing, left over, misshapen or not finite.

    It is empty if everything fits.
    """
    common = sorted(set(wanted) & set(weights))
    shapes = [
        f"{name} {list(weights[name].shape)} for {list(wanted[name].shape)}"
        for name in common
        if weights[name].shape != wanted[name].shape
    ]
    problems = {
        "missing": sorted(set(wanted) - set(weights)),
        "left over": sorted(set(weights) - set(wanted)),
        "of another shape": shapes,
        "not finite": [name for name in common if not weights[name].isfinite().all()],
    }
    return "; ".join(f"{what} {first_names(names)}" for what, names in problems.items() if names)


def first_names(names: list[str]) -> str:
    """The first three of `names`, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
