"""The command line: mounts the commands of the rooms and turns their errors into one line and
an exit code.
"""

import errno
import io
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import sono.annotation.commands
import sono.curation.commands
import sono.evaluation.commands
import sono.training.commands
from sono.curation.core.atomic import FULL_DISK, TEMPORARY_PREFIX
from sono.curation.core.errors import SonoError

if TYPE_CHECKING:
    from sono.curation.core.config import Config

USAGE = 2
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
INTERRUPTED = 130  # the exit code that typer gives for Ctrl-C

# The settings model of each section of `sono.toml`; none of them imports torch.
SETTINGS = {
    "study": "sono.curation.core.config:StudyConfig",
    "qc": "sono.curation.imaging.quality:QualityConfig",
    "records": "sono.curation.records.read:RecordsConfig",
    "splits": "sono.curation.dataset.splits:SplitConfig",
    "masks": "sono.annotation.propose:MaskConfig",
    "captions": "sono.annotation.captions:CaptionConfig",
    "training": "sono.training.config:TrainingConfig",
    "evaluation": "sono.evaluation.config:EvaluationConfig",
}


def settings_model(section: str) -> "type[Config]":
    """The model of a section, imported now."""
    module, name = SETTINGS[section].split(":")
    model: type[Config] = getattr(import_module(module), name)
    return model


app = typer.Typer(
    context_settings={"obj": settings_model},
    name="sono",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "From raw fetal ultrasound to a trustworthy image-text-mask data set and a CLIP. Not a "
        "medical device."
    ),
)
app.add_typer(sono.curation.commands.app)
app.add_typer(sono.curation.commands.records, name="records")
app.add_typer(sono.curation.commands.quarantine, name="quarantine")
sono.curation.commands.export.add_typer(sono.training.commands.export)
app.add_typer(sono.curation.commands.export, name="export")
app.add_typer(sono.annotation.commands.masks, name="masks")
app.add_typer(sono.annotation.commands.captions, name="captions")
app.add_typer(sono.annotation.commands.app)
app.add_typer(sono.training.commands.app)
app.add_typer(sono.training.commands.model_app, name="model")
app.add_typer(sono.evaluation.commands.app)


def main() -> None:
    """Run the command line; a SonoError is one line on stderr and its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold bytes that are no text
    try:
        _refuse_empty(sys.argv[1:])
        app()
    except SonoError as error:
        sys.stderr.write(_one_line(str(error)))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        how = (
            "the same command goes on where it stopped (sono train: with --resume, once it has "
            "saved)"
        )
        sys.stderr.write(f"sono: interrupted; {how}\n")
        sys.exit(INTERRUPTED)
    except UnicodeEncodeError as error:
        sys.stderr.write(
            f"sono: {error.object!a}: a name or text that is not UTF-8; rename the file or folder\n"
        )
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(_one_line(_told(error)))
        sys.exit(1)


def _refuse_empty(words: list[str]) -> None:
    """Exit 2 for an empty argument.

    As a path it would be the current folder, which nobody asked for.
    """
    for before, word in zip(["sono", *words], words, strict=False):
        if not word or re.fullmatch("--[a-z-]+=", word):
            sys.stderr.write(
                f"sono: the argument after '{before}' is empty; give a value, or leave the option "
                f"out\n"
            )
            sys.exit(USAGE)


def _one_line(message: str) -> str:
    return f"sono: {' '.join(message.split())}\n"


def _told(error: OSError) -> str:
    """The operating system's words, the place, and what to do."""
    place = f": {_shown(error.filename)}" if error.filename else ""
    if error.errno in FULL_DISK:
        return (
            f"the disk is full{place}; make room and run the same command again: what was whole "
            f"before still is"
        )
    advice = (
        "; give yourself the right to it, or name another place" if error.errno in NO_RIGHT else ""
    )
    return f"{error.strerror or error}{place}{advice}"


def _shown(name: object) -> object:
    """The name of a file, or of the folder where a temporary one could not be made."""
    path = Path(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) else None
    return path.parent if path is not None and path.name.startswith(TEMPORARY_PREFIX) else name


if __name__ == "__main__":
    main()
