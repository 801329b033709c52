"""The stage `probe`: what the frozen features of an encoder contain, in one report."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sono.curation.core.atomic import write_bytes, write_text
from sono.curation.core.atomic_folders import atomic_folder, copy_others
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.evaluation.probes.age import measure_age
from sono.evaluation.probes.biometry import measure_biometry
from sono.evaluation.probes.measures import Found, measure_classes, measure_sites
from sono.evaluation.probes.segment import measure_masks
from sono.evaluation.probes.study import BIOMETRY, SITES, Probe, ProbeOptions, open_probe
from sono.evaluation.result_tables import FOLDER as TABLES
from sono.evaluation.result_tables import ResultTable, title_of, write_tables
from sono.templates.reports import data_uri, render_report, words
from sono.training.runtime.memory import reuse_freed_memory

LONG = 14  # rows of a table that the report, but not the terminal, shows


@dataclass(frozen=True)
class ProbeResult:
    """The numbers of a probe, its tables, and the folder of its report."""

    title: str
    folder: Path
    metrics: dict[str, Any]
    found: Found

    def as_dict(self) -> dict[str, Any]:
        """The contents of metrics.json, and its folder."""
        return {"folder": str(self.folder), **self.metrics}

    def __rich__(self) -> Group:
        """The view for the terminal."""
        shown = [
            _view(table) for table in self.found.tables if table.cells and len(table.rows) <= LONG
        ]
        meanings = Table.grid(padding=(0, 2))
        named = {name for table in self.found.tables for name in (*table.rows, *table.columns)}
        for word, meaning in words("probes").items():
            if word in named:
                meanings.add_row(word.replace("_", " "), meaning)
        notes = [Text(f"- {note}") for note in self.metrics["notes"]]
        sentences = [Text(sentence) for sentence in self.found.sentences]
        report = Text(f"report: {self.folder / 'report.html'}")
        return Group(Text(self.title), *shown, meanings, *sentences, *notes, report)


def probe(workspace: Workspace, options: ProbeOptions) -> ProbeResult:
    """Fit and test the probes of a target, and write a report with its tables.

    Raises SonoError if there is no such target, encoder or frame, or too few patients.
    """
    reuse_freed_memory()
    study = open_probe(workspace, options)
    options = study.options
    found = _measure(options.target)(study)
    excluded = [f"left out: {count} {reason}" for reason, count in study.excluded.items()]
    metrics = {
        "first_line": study.first_line,
        "target": options.target,
        "encoder": study.subject.label,
        "mask": options.mask,
        "protocol": options.protocol.words,
        "excluded": study.excluded,
        "notes": study.notes + excluded,
        "sentences": list(found.sentences),
        "settings": study.settings.model_dump(mode="json"),
        **found.metrics,
    }
    mask = "" if options.mask == "none" else f" ({options.mask} masks)"
    tuned = " (fine-tuned)" * options.fine_tune
    name = f"{options.target}{mask}{tuned}"
    folder = study.subject.folder / "probe" / name / options.protocol.name
    result = ProbeResult(study.first_line, folder, metrics, found)
    _write(result)
    check_privacy(workspace)
    return result


def _measure(target: str) -> Callable[[Probe], Found]:
    if target == "ga_days":
        return measure_age
    if target == "masks":
        return measure_masks
    if target == BIOMETRY:
        return measure_biometry
    return measure_sites if target in SITES else measure_classes


def _write(result: ProbeResult) -> None:
    """Write all files of a probe or none, so that the report fits the numbers."""
    found, folder = result.found, result.folder
    tables = [table for table in found.tables if table.cells]
    page = render_report(
        "probe.html.j2",
        metrics=result.metrics,
        tables=tables,
        words=words("probes"),
        title_of=title_of,
        figures={title: data_uri(picture) for title, picture in found.figures.items()},
    )
    with atomic_folder(folder) as new:
        write_text(
            new / "metrics.json", json.dumps(result.metrics, indent=2, sort_keys=True) + "\n"
        )
        write_text(new / "report.html", page)
        for title, picture in found.figures.items():
            write_bytes(new / f"{title.lower().replace(' ', '_')}.svg", picture)
        copy_others(folder, new)
        write_tables(new / TABLES, tables)


def _view(found: ResultTable) -> Table:
    """A table in 80 columns; standard deviations are in the report."""
    intervals = any(not isnan(cell.value.low) for cell in found.cells)
    title = f"{found.name.replace('_', ' ')}, {found.unit.words}{' [95 % interval]' * intervals}"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    table.add_column(found.labels[0].replace("_", " "), no_wrap=True)
    columns = [name for name in found.columns if not name.endswith("_sd")]
    for name in columns:
        table.add_column(title_of(name) or found.unit.name)
    for row, cells in found.rows.items():
        values = (cells.get(name) for name in columns)
        texts = ["" if cell is None else found.unit.text(cell.value) for cell in values]
        table.add_row(row.replace("_", " "), *texts)
    return table
