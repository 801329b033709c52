"""A study with proposals to review, and a running review page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import requests
import uvicorn
from studies import fill_vault

from sono.annotation.masks import mask_row, mask_table
from sono.annotation.review.queue import Wanted
from sono.annotation.review.server import free_socket, review_app
from sono.annotation.review.session import ReviewSession
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace

HEIGHT, WIDTH = 40, 61  # whose pixels do not fill whole bytes
TOKEN = "opens-once"


def make_review_study(folder: Path, count: int = 6) -> Workspace:
    """`count` frames with one proposal each; the scores increase with the number."""
    workspace = Workspace.create(folder / "study")
    rows, masks = [], []
    for number in range(count):
        gray = np.full((HEIGHT, WIDTH), 90 + number, np.uint8)
        file = frame_file(f"{number:016x}", gray)
        (workspace.root / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / file).write_bytes(encode_png(gray))
        row: dict[str, Any] = {"image_id": f"{number:016x}", "source_id": f"s{number}", "frame": 0}
        row |= {"status": "accepted", "height": HEIGHT, "width": WIDTH, "file": file}
        rows.append(row | {"plane": "femur" if number % 2 else "transthalamic"})
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[10 : 20 + number, 15:45] = True
        structure = "femur" if number % 2 else "fetal head"
        masks.append(mask_row(row, mask, structure, "heuristic", score=(number + 1) / 10))
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    fill_vault(workspace)
    workspace.write(MASKS, mask_table(masks))
    return workspace


def opened(workspace: Workspace, reviewer: str, *more: Any, **options: Any) -> ReviewSession:
    """A review of the proposed masks, unless asked otherwise."""
    return ReviewSession.open(workspace, Wanted(reviewer, *more, **options))


class Page:
    """A browser of the tests: the address of a review, and what it has been given."""

    def __init__(self, port: int) -> None:
        self.port, self.home = port, f"http://127.0.0.1:{port}"
        self.browser = requests.Session()

    def open(self, token: str = TOKEN) -> requests.Response:
        return self.browser.get(self.home, params={"token": token}, timeout=20)

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.browser.get(self.home + path, headers=headers, timeout=20)

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        given = {"Origin": self.home, **headers}
        return self.browser.post(self.home + path, json=body, headers=given, timeout=20)

    def decide(self, place: int, version: int, action: str, **more: str) -> requests.Response:
        body = {"place": place, "version": version, "action": action, **more}
        return self.post("/api/decision", body)


@contextmanager
def running(session: ReviewSession) -> Iterator[Page]:
    """Serve `session` in a thread of this process."""
    with free_socket(0) as listener:
        port = listener.getsockname()[1]
        app = review_app(session, TOKEN, port)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Page(port)
        finally:
            server.should_exit = True
            thread.join(20)
