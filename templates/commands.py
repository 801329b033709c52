"""`sono stats`."""

import typer

from sono.curation.command_line import JsonOption, QuietOption, WorkspaceOption, show

app = typer.Typer()


@app.command()
def stats(workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Count what is in the study and write report.html with plots and pictures.

    Example: sono stats
    """
    from sono.curation.workspace import Workspace
    from sono.templates.reports import write_statistics_report

    statistics, report = write_statistics_report(Workspace.find(workspace))
    result = {**(statistics.as_dict() if as_json else statistics.headline()), "report": str(report)}
    show(result, as_json, "sono captions build" if statistics.captions.empty else "sono train")
