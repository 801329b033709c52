"""What every command shares: the common options, and how a result is printed."""

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sono.curation.core.workspace import Workspace


@dataclass
class _Given:
    """Options of this command that its next step repeats."""

    workspace: Path | None = None


_given = _Given()


def _be_quiet(quiet: bool) -> None:
    from sono.curation.core.console import stderr_console

    stderr_console.quiet = quiet


def _check_settings(context: typer.Context, folder: Path | None) -> Path | None:
    """Check every section of the workspace's `sono.toml`, and its vault, before any command runs.

    The context's `obj` returns the settings model of a section, because this package must not
    import the packages that define them.
    """
    from sono.curation.core.config import check_sections
    from sono.curation.core.workspace import Workspace

    _given.workspace = folder
    study = Workspace.find_or_none(folder)
    if study is not None and context.obj is not None:
        check_sections(study.config_path, context.obj)
        _check_vault(study)
    return folder


def _check_vault(study: "Workspace") -> None:
    """Raise SonoError for the vault of another study; warn about one that others may open."""
    from sono.curation.core.console import warn

    study.has_vault()
    loose = study.loose_vault()
    if loose is not None:
        warn(loose)


WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        help="The study's folder. Default: the one at or above the current folder.",
        callback=_check_settings,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print errors and privacy warnings only; with --json, the result, too.",
        callback=_be_quiet,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Worker processes; with 1 the work is done in this process.",
        show_default="cores",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        help=(
            "Address of a dask scheduler, tcp://host:port; its workers need the same folders "
            "mounted (docs/cluster.md)."
        )
    ),
]
NoVaultOption = Annotated[
    bool,
    typer.Option(
        "--no-vault",
        help="Write without the vault, so that nothing can be searched for private data.",
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit with code 3 if there are findings.")
]


def show(result: Any, as_json: bool = False, next_step: str | Sequence[str] = "") -> None:
    """Print a result to stdout, as JSON or as a table followed by the next step.

    Each `next_step` can be pasted: a command gets the --workspace of this one. With --quiet only
    JSON is printed.
    """
    from rich.console import Console

    from sono.curation.core.console import stderr_console

    values = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    if as_json:
        sys.stdout.write(json.dumps(values, default=str, indent=1) + "\n")
        return
    if stderr_console.quiet:
        return
    out = Console(highlight=False, soft_wrap=True)
    if hasattr(result, "__rich__"):
        out.print(result)
    else:
        _print_values(out, values)
    steps = [next_step] if isinstance(next_step, str) else next_step
    for number, step in enumerate(filter(None, steps)):
        out.print("  or: " if number else "\nnext: ", end="")
        out.print(_in_workspace(step), style="bold", markup=False)


def _in_workspace(step: str) -> str:
    """A command with the --workspace that was given to this one."""
    words = step.split()
    if _given.workspace is None or words[0] != "sono" or {"-w", "--workspace"} & set(words):
        return step
    return f"{step} -w {shlex.quote(str(_given.workspace))}"


def _print_values(out: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is None or (not value and isinstance(value, Mapping | tuple)):
            continue
        out.print(f"[bold]{name.replace('_', ' '):<20}[/bold] {_format_value(value)}", markup=True)


def _format_value(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(key))} {_format_value(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return "".join(f"\n  - {_format_value(item)}" for item in value)
    return escape(str(value))
