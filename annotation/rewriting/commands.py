"""`sono captions rewrite`."""

import os
from typing import Annotated

import typer

from sono.curation.core.cli_options import JsonOption, QuietOption, WorkspaceOption, show

app = typer.Typer()


@app.command()
def rewrite(
    url: Annotated[str, typer.Option(help="A server with OpenAI's chat API: http://.../v1.")],
    model: Annotated[str, typer.Option(help="The model of the server.")],
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Send captions to a server on another computer."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send the texts without asking first.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="Time limit of an answer.")] = 60.0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Add captions that a language model has rephrased, where every fact is kept.

    The captions of the template stay. The key of a server is read from SONO_LLM_KEY.

    Example: sono captions rewrite --url http://127.0.0.1:8000/v1 --model NAME
    """
    from sono.annotation.rewriting.chat_client import ChatClient, check_url
    from sono.annotation.rewriting.rewrite import plan_rewrite, rewrite_captions
    from sono.curation.core.console import stderr_console
    from sono.curation.core.workspace import Workspace

    study = Workspace.find(workspace)
    remote = check_url(url, allow_remote)
    client = ChatClient(url, model, seconds, os.environ.get("SONO_LLM_KEY", ""))
    plan = plan_rewrite(study, client)
    cost = f"{plan}{f'; the texts leave this computer for {url}' if remote else ''}"
    if plan.to_ask and not yes:
        typer.confirm(f"{cost}. Ask the server?", abort=True, err=True)
    else:
        stderr_console.print(cost, markup=False)
    show(rewrite_captions(study, client, plan), as_json, next_step="sono stats")
