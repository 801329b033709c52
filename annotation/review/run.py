"""`sono masks review`: open a session, serve it, and say what was decided."""

import secrets
import threading
import webbrowser
from importlib.util import find_spec

import typer

from sono.annotation.review.queue import Wanted
from sono.annotation.review.session import ReviewSession
from sono.annotation.review.summary import ReviewSummary
from sono.curation.core.atomic import lock_file, open_lock
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace


def run_review(
    workspace: Workspace, wanted: Wanted, port: int = 0, browser: bool = True
) -> ReviewSummary:
    """Serve the review page on 127.0.0.1 until Ctrl-C; the address is printed on stderr.

    Raises SonoError if the extra `review` is not installed, if another review of this workspace is
    running, or if there is nothing to review.
    """
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise SonoError(
            "the review page needs FastAPI and Uvicorn; install them: pip install 'sono[review]'"
        )
    from sono.annotation.review.server import free_socket, serve

    with open_lock(workspace.root / ".review.lock") as lock:
        lock_file(lock, f"{workspace.root}: another review is running here; end it with Ctrl-C")
        session = ReviewSession.open(workspace, wanted)
        # the first correction of a caption need not wait for the tokenizer
        threading.Thread(target=session.frames.warm, daemon=True).start()
        with free_socket(port) as listener:
            token = secrets.token_urlsafe(32)
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"
            planted = any(one.kind == "planted" for one in session.items)
            task = "draw, on frames that lack them" if wanted.which == "missing" else "review"
            check = "; some are wrong on purpose (--planted), as a check" if planted else ""
            # also with --quiet: without the address there is no review
            typer.echo(
                f"{len(session.items)} masks to {task}{check}; Ctrl-C ends the review. Open once:\n"
                f"{address}",
                err=True,
            )
            if browser:
                webbrowser.open(address)
            serve(session, listener, token)
        return session.summary()
