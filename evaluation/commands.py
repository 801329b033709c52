"""`sono eval`."""

from typing import Annotated

import typer

from sono.curation.core.cli_options import (
    JobsOption,
    JsonOption,
    QuietOption,
    SchedulerOption,
    WorkspaceOption,
    show,
)

app = typer.Typer()


@app.command("eval")
def evaluate(
    center: Annotated[
        str | None, typer.Option(help="Evaluate on all frames of this center.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name or folder of the run.", show_default="the newest")
    ] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Accept a center that was trained on.")
    ] = False,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a run, zero-shot, on the test split or an unseen center, and write a report.

    Example: sono eval --center B
    """
    from sono.curation.core.engine import Engine
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.evaluate import EvaluationOptions
    from sono.evaluation.evaluate import evaluate as run_evaluation
    from sono.evaluation.selection import Target

    study = Workspace.find(workspace)
    options = EvaluationOptions(run, Target(center, allow_seen=allow_seen))
    result = run_evaluation(study, options, Engine.create(jobs, scheduler))
    show(result.as_dict() if as_json else result, as_json)
