"""Does kill -9 lose a decision of a mask review? Confirmed ones must be there once, and right.

A client decides over HTTP: masks, new masks, frames that are excluded, remarks that are withdrawn
and captions that are corrected. The server is killed at random moments: while it starts, between
two decisions, and while one is under way. A decision whose answer never came may be saved or not,
but not twice.

Example: python benchmarks/review_kills.py --kills 200 --frames 250
"""

import argparse
import base64
import multiprocessing
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import requests
from review_speed import make_review_study

from sono.annotation.captions import build_captions
from sono.annotation.review.decisions import Decision, DecisionLog
from sono.annotation.review.queue import Wanted
from sono.annotation.review.run import run_review
from sono.annotation.review.server import pack
from sono.curation.core.rle import encode
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows, rows_of, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

FORKS = multiprocessing.get_context("forkserver")  # so that a server need not import everything
STATES = {"accept": "accepted", "reject": "rejected"}
# of the decisions: an exclusion, a wrong remark, and a structure that no mask of the study shows
REASON, REMARK, STRUCTURE = "blurred", "overlay", "midline falx"
PATIENCE = 120  # seconds
Key = tuple[str, str]  # what is decided, and the id of the mask or frame


def make_study(root: Path, frames: int) -> Workspace:
    """A study of proposals with captions, remarks and a vault."""
    workspace = make_review_study(root, frames)
    rows = [row | {"reasons": [REMARK]} for row in rows_of(workspace.read(IMAGES))]
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    source = {"path": b"/x/1", "root": b"/x", "settings_hash": "", "private": [], "persons": []}
    sources = from_rows(SOURCES, [row | source for row in rows])
    write_table(workspace.sources_path, sources, SOURCES, mode=0o600)
    build_captions(workspace)
    return workspace


def plan_of(image_id: str, mask_id: str) -> list[Key]:
    """What the client decides on a frame, the same after each kill."""
    draw = random.Random(image_id)
    extra = [(what, image_id) for what in ("remark", "caption", "new") if draw.random() < 0.4]
    return [*extra, ("frame", image_id) if draw.random() < 0.15 else ("mask", mask_id)]


@dataclass
class Client:
    """A page that decides: what was confirmed and what was not answered, by key."""

    draw: random.Random
    frames: Mapping[str, str]  # of the masks
    confirmed: dict[Key, str] = field(default_factory=dict)
    unanswered: dict[Key, str] = field(default_factory=dict)

    def open(self, address: str) -> None:
        """Exchange the token of a printed address for a cookie."""
        self.home, self.browser = address.partition("/?")[0], requests.Session()
        self.browser.get(address, timeout=PATIENCE).raise_for_status()

    def decide(self, killer: threading.Timer | None = None) -> bool:
        """Decide the next thing; return whether there was one. `killer` starts with it."""
        place = self._get("next/-1")["place"]
        if place is None:
            return False
        item = self._get(f"item/{place}")
        steps = plan_of(self.frames[item["mask_id"]], item["mask_id"])
        key = next(one for one in steps if self._is_open(one[0], item))
        path, body, value = self._request(key[0], item)
        self.unanswered[key] = value
        if killer is not None:
            killer.start()
        self._post(path, body)
        self.confirmed[key] = self.unanswered.pop(key)
        return True

    def _is_open(self, what: str, item: Mapping[str, Any]) -> bool:
        """Whether the page shows that this was not decided."""
        if what == "remark":
            return not item["frame"]["remarks"][0]["wrong"]
        if what == "caption":
            return item["frame"]["captions"][0]["state"] is None
        return what != "new" or STRUCTURE not in self._get(f"structures/{item['place']}")["masked"]

    def _request(self, what: str, item: Mapping[str, Any]) -> tuple[str, dict[str, Any], str]:
        """The path and body of a decision, and what the tables must have of it."""
        body = {"place": item["place"], "version": item["version"]}
        on_frame = body | {"version": item["frame"]["version"]}
        if what == "remark":
            return "frame", on_frame | {"excluded": None, "withdrawn": [REMARK]}, REMARK
        if what == "frame":
            wrong = [one["code"] for one in item["frame"]["remarks"] if one["wrong"]]
            return "frame", on_frame | {"excluded": REASON, "withdrawn": wrong}, REASON
        if what == "caption":
            text = item["frame"]["captions"][0]["text"].removesuffix(".") + ", as seen."
            more = {"level": "global", "state": "corrected", "text": text}
            return "caption", on_frame | more, text
        if what == "new":
            asked = self._post("new", {"place": item["place"], "structure": STRUCTURE})
            drawn = np.zeros((item["height"], item["width"]), np.bool_)
            row, column = self.draw.randrange(200), self.draw.randrange(300)
            drawn[row : row + 40, column : column + 60] = True
            body = {"place": asked["place"], "version": asked["version"], "action": "edit"}
            bits = base64.b64encode(pack(drawn)).decode()
            return "decision", body | {"mask": bits}, encode(drawn)
        action = self.draw.choice(tuple(STATES))
        return "decision", body | {"action": action}, STATES[action]

    def _get(self, path: str) -> Any:
        return self.browser.get(f"{self.home}/api/{path}", timeout=PATIENCE).json()

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        url, origin = f"{self.home}/api/{path}", {"Origin": self.home}
        answer = self.browser.post(url, json=body, headers=origin, timeout=PATIENCE)
        answer.raise_for_status()
        return answer.json()


def serve(root: Path, printed: Path) -> None:
    """A review in a process of its own; what it prints goes to a file."""
    with printed.open("w", buffering=1) as sys.stderr:
        run_review(Workspace(root), Wanted("Reviewer"), browser=False)


def start(root: Path, printed: Path) -> ForkServerProcess:
    """Start the server."""
    printed.unlink(missing_ok=True)
    process = FORKS.Process(target=serve, args=(root, printed))
    process.start()
    return process


def address_of(process: ForkServerProcess, printed: Path) -> str:
    """The address with its token, once it is printed."""
    while process.exitcode is None:
        text = printed.read_text() if printed.exists() else ""
        if found := re.search(r"http://\S+\?token=\S+(?=\n)", text):
            return found[0]
        time.sleep(0.005)
    raise RuntimeError(f"the server did not start: {printed.read_text()}")


def life(root: Path, printed: Path, client: Client) -> str:
    """One server from its start to its kill; where it was killed."""
    draw, process = client.draw, start(root, printed)
    if draw.random() < 0.2:
        time.sleep(draw.uniform(0, 1.5))
        process.kill()
        process.join()
        return "starting"
    client.open(address_of(process, printed))
    before, last = len(client.unanswered), draw.randrange(4)
    during = draw.random() < 0.6
    killer = threading.Timer(draw.uniform(0, 0.03 if during else 0.2), process.kill)
    # the kill; another answer than expected is an error
    with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        for number in count():
            if number == last and not during:
                killer.start()
            if not client.decide(killer if number == last and during else None):
                break
    if not killer.is_alive():
        process.kill()  # also where nothing was left
    process.join()
    return "between two decisions" if len(client.unanswered) == before else "during a decision"


def keys_of(decision: Decision) -> Iterator[Key]:
    """What a decision of the log decides."""
    if decision.kind == "first":
        yield "mask", decision.item
    elif decision.kind == "caption":
        yield "caption", decision.item
    elif decision.kind == "new":
        yield "new", str(decision.after["image_id"])
    else:
        for what, name in (("frame", "excluded"), ("remark", "withdrawn")):
            if decision.before[name] != decision.after[name]:
                yield what, decision.item


def state_of(workspace: Workspace) -> dict[Key, str]:
    """What the tables have of each thing that can be decided."""
    found = {("mask", row["mask_id"]): str(row["state"]) for row in rows_of(workspace.read(MASKS))}
    for row in rows_of(workspace.read(MASKS)):
        if row["structure"] == STRUCTURE:
            found["new", row["image_id"]] = str(row["counts"])
    for row in rows_of(workspace.read(CAPTIONS)):
        if row["level"] == "global":
            found["caption", row["image_id"]] = str(row["text"])
    for row in rows_of(workspace.read(IMAGES)):
        if row["status"] == "rejected" and REASON in row["reasons"]:
            found["frame", row["image_id"]] = REASON
    for row in rows_of(workspace.released()):
        for code in () if row["withdrawn"] is None else row["withdrawn"]:
            found["remark", str(row["picture"]).rpartition("-")[0]] = str(code)
    return found


def check(root: Path, client: Client) -> tuple[list[Key], list[Key]]:
    """The confirmed decisions that are lost or wrong, and those that are doubled or nobody's."""
    workspace = Workspace(root)
    saved = DecisionLog(workspace.reviews_path).decisions
    times = Counter(key for one in saved for key in keys_of(one))
    state = state_of(workspace)
    lost = [key for key, value in client.confirmed.items() if state.get(key) != value]
    lost += [key for key in client.confirmed if not times[key]]
    sent = {*client.confirmed, *client.unanswered}
    return lost, [key for key, number in times.items() if number > 1 or key not in sent]


def main() -> None:
    """Kill, decide the rest, compare; exit code 1 if a confirmed decision is lost or doubled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--frames", type=int, default=250, help="about two decisions for each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    preload = [__name__, "sono.annotation.review.server", "open_clip.tokenizer"]
    FORKS.set_forkserver_preload(preload)
    where = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        root, printed = Path(folder) / "study", Path(folder) / "printed"
        masks = make_study(root, options.frames).masks()
        frames = dict(zip(masks["mask_id"], masks["image_id"], strict=True))
        client = Client(random.Random(options.seed), frames)
        for number in range(1, options.kills + 1):
            where[life(root, printed, client)] += 1
            if number % 10 == 0:
                print(f"{number} kills, {len(client.confirmed)} confirmed", flush=True)
        last = start(root, printed)
        with suppress(RuntimeError):  # nothing is left to review
            client.open(address_of(last, printed))
            while client.decide():
                pass
        last.kill()
        last.join()
        with suppress(Exception):
            serve(root, printed)  # writes what is left into the table, then finds nothing to review
        lost, doubled = check(root, client)
    sys.stderr = sys.__stderr__
    kinds = Counter(what for what, _ in client.confirmed)
    print(f"{options.kills} kills: {dict(where)}")
    print(
        f"{len(client.confirmed)} confirmed decisions ({dict(kinds)}), {len(client.unanswered)} "
        f"without an answer: {len(lost)} lost or wrong, {len(doubled)} doubled"
    )
    for one in (*lost, *doubled):
        print(*one)
    sys.exit(bool(lost or doubled))


if __name__ == "__main__":
    main()
