"""`sono pull`."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sono.curation.core.cli_options import JsonOption, QuietOption, show

DAY = ["%Y-%m-%d"]


def pull(
    url: Annotated[str, typer.Argument(help="Address of the DICOMweb service, https://host/path.")],
    out: Annotated[
        Path, typer.Argument(help="The raw folder: a new one, or one made by this command.")
    ],
    first_day: Annotated[
        datetime | None, typer.Option("--from", formats=DAY, help="First study date.")
    ] = None,
    last_day: Annotated[
        datetime | None, typer.Option("--to", formats=DAY, help="Last study date.")
    ] = None,
    modality: Annotated[
        str,
        typer.Option(
            help="Modality to fetch; structured reports of the same studies are included."
        ),
    ] = "US",
    patient_file: Annotated[
        Path | None, typer.Option(help="Text file with one patient id per line.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of studies.")] = None,
    insecure_http: Annotated[
        bool,
        typer.Option("--insecure-http", help="Allow http without encryption to a public address."),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch studies from a PACS over DICOMweb.

    Credentials come from environment variables (docs/pacs.md).

    Example: sono pull https://pacs.example/dicom-web raw --from 2024-01-01 --to 2024-03-31
    """
    from sono.curation.pacs.pull import PullOptions, pull_studies

    first, last = (day.date() if day else None for day in (first_day, last_day))
    options = PullOptions(
        url, out, first, last, modality.upper(), patient_file, limit, insecure_http
    )
    summary = pull_studies(options)
    show(summary, as_json, next_step=f"sono qc {shlex.quote(str(out))}" if summary.studies else "")
    options.refuse_nothing(summary)
    summary.refuse_failures()
