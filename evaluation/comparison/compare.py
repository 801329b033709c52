"""The stage `compare`: one table of several runs on the same frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.evaluation.comparison.measure import compare
from sono.evaluation.comparison.runs import Evaluated, read_evaluations
from sono.evaluation.comparison.view import Comparison
from sono.evaluation.config import EvaluationConfig
from sono.evaluation.statistics.bootstrap import Draws
from sono.evaluation.text_tables import check_outputs, write_table


@dataclass(frozen=True)
class CompareOptions:
    """The runs, the name of their evaluation, the mask mode, and the files to write."""

    runs: tuple[str, ...]
    on: str | None = None
    mask: str = "all_one"
    outputs: tuple[Path, ...] = ()


def compare_runs(workspace: Workspace | None, options: CompareOptions) -> Comparison:
    """Compare the other runs with the first one, and write the table.

    Raises SonoError if the runs were not evaluated on the same frames.
    """
    check_outputs(workspace, options.outputs)
    settings = (
        EvaluationConfig.model_validate({})
        if workspace is None
        else workspace.settings("evaluation", EvaluationConfig)
    )
    planes = PlaneTable() if workspace is None else workspace.planes()
    runs = read_evaluations(workspace, options.runs, options.on, options.mask)
    how = Draws(settings.bootstrap_draws, settings.seed)
    found = Comparison(
        _title(runs),
        options.mask,
        tuple(compare(runs, options.mask, how)),
        {plane.id: plane.name for plane in planes.planes},
        tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    )
    for path in options.outputs:
        write_table(found.table, path)
    return found


def _title(runs: Sequence[Evaluated]) -> str:
    """The runs, and what they were evaluated on: of each where one has seen more than another."""
    if len({run.title for run in runs}) == 1:
        return f"{', '.join(run.label for run in runs)}. {runs[0].title}"
    return ". ".join(f"{run.label}: {run.title}" for run in runs)
