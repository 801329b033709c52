"""The command line: mount the commands of all packages and print errors as one line."""

import errno
import io
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sono.annotation.captioning.commands
import sono.annotation.commands
import sono.annotation.release.commands
import sono.annotation.rewriting.commands
import sono.curation.commands
import sono.evaluation.commands
import sono.training.commands
from sono.curation.core.cli_options import ANNOTATE, EVALUATE, READ
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
    "segmenter": "sono.annotation.segmenter.config:SegmenterConfig",
    "review": "sono.annotation.review.keys:ReviewConfig",
    "captions": "sono.annotation.captions:CaptionConfig",
    "card": "sono.annotation.release.card_config:CardConfig",
    "training": "sono.training.config:TrainingConfig",
    "evaluation": "sono.evaluation.config:EvaluationConfig",
}


def settings_model(section: str) -> "type[Config]":
    """Import and return the settings model of a section of `sono.toml`."""
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
        "Turn raw fetal ultrasound into a checked dataset of images, texts and masks, train a CLIP "
        "model on it, and measure how well it generalizes. Not a medical device."
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"sono {version('sono')}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Add the options of `sono` itself; `app` has its help."""


# In the order of `sono --help`.
app.add_typer(sono.curation.commands.app)
app.add_typer(sono.curation.commands.records, name="records", rich_help_panel=READ)
app.add_typer(sono.curation.commands.quarantine, name="quarantine", rich_help_panel=READ)
app.add_typer(sono.annotation.captioning.commands.planes, name="planes", rich_help_panel=READ)
app.add_typer(sono.annotation.commands.masks, name="masks", rich_help_panel=ANNOTATE)
sono.annotation.captioning.commands.captions.add_typer(sono.annotation.rewriting.commands.app)
app.add_typer(
    sono.annotation.captioning.commands.captions, name="captions", rich_help_panel=ANNOTATE
)
app.add_typer(sono.annotation.commands.app)
app.add_typer(sono.annotation.release.commands.app)
sono.curation.commands.export.add_typer(sono.training.commands.export)
sono.curation.commands.export.add_typer(sono.annotation.release.commands.export)
app.add_typer(sono.curation.commands.export, name="export", rich_help_panel=ANNOTATE)
app.add_typer(sono.annotation.release.commands.imports, name="import", rich_help_panel=ANNOTATE)
app.add_typer(sono.training.commands.app)
app.add_typer(sono.evaluation.commands.app)
sono.training.commands.model_app.add_typer(sono.evaluation.commands.model_app)
app.add_typer(sono.training.commands.model_app, name="model", rich_help_panel=EVALUATE)


def main() -> None:
    """Run the command line; an error prints one line on stderr and sets the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a path may contain bytes that are not text
    try:
        _refuse_empty(sys.argv[1:])
        app()
    except SonoError as error:
        sys.stderr.write(_one_line(str(error)) + error.block)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        sys.stderr.write(
            "sono: interrupted; run the same command again to continue (sono train: add --resume, "
            "if it has saved a checkpoint)\n"
        )
        sys.exit(INTERRUPTED)
    except UnicodeEncodeError as error:
        sys.stderr.write(
            f"sono: {error.object!a}: this name or text is not UTF-8; rename the file or folder\n"
        )
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(_one_line(_format_os_error(error)))
        sys.exit(1)


def _refuse_empty(words: list[str]) -> None:
    """Exit 2 for an empty argument, which as a path would mean the current folder."""
    for before, word in zip(["sono", *words], words, strict=False):
        if not word or re.fullmatch("--[a-z-]+=", word):
            sys.stderr.write(
                f"sono: the argument after '{before}' is empty; give a value or omit the option\n"
            )
            sys.exit(USAGE)


def _one_line(message: str) -> str:
    return f"sono: {' '.join(message.split())}\n"


def _format_os_error(error: OSError) -> str:
    """The message of the operating system with the place and advice."""
    from sono.curation.core.atomic import FULL_DISK

    place = f": {_public_place(error.filename)}" if error.filename else ""
    if error.errno in FULL_DISK:
        return (
            f"the disk is full{place}; make room and run the same command again; existing "
            "files are intact"
        )
    advice = "; change its permissions, or give another place" if error.errno in NO_RIGHT else ""
    return f"{error.strerror or error}{place}{advice}"


def _public_place(name: object) -> object:
    """The name of a file, or its folder if the file is a temporary one."""
    from sono.curation.core.atomic import TEMPORARY_PREFIX

    path = Path(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) else None
    return path.parent if path is not None and path.name.startswith(TEMPORARY_PREFIX) else name


if __name__ == "__main__":
    main()
