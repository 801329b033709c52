"""Does kill -9 lose a decision of a mask review? Confirmed ones must be there once, and right.

A client decides masks over HTTP; the server is killed at random moments: while it starts, between
two decisions, and while one is under way. A decision whose answer never came may be saved or not,
but not twice.

Example: python benchmarks/review_kills.py --kills 200 --decisions 500
"""

import argparse
import multiprocessing
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import requests
from review_speed import make_review_study

from sono.annotation.review.decisions import DecisionLog
from sono.annotation.review.queue import Wanted
from sono.annotation.review.run import run_review
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace

FORKS = multiprocessing.get_context("forkserver")  # so that a server need not import everything
STATES = {"accept": "accepted", "reject": "rejected"}
PATIENCE = 120  # seconds


@dataclass
class Client:
    """A page that decides masks: what was confirmed, by mask, and what was not answered."""

    draw: random.Random
    confirmed: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)

    def open(self, address: str) -> None:
        """Exchange the token of a printed address for a cookie."""
        self.home, self.browser = address.partition("/?")[0], requests.Session()
        self.browser.get(address, timeout=PATIENCE).raise_for_status()

    def decide(self, killer: threading.Timer | None = None) -> bool:
        """Decide the next mask; return whether there was one. `killer` starts with the decision."""
        place = self.browser.get(f"{self.home}/api/next/-1", timeout=PATIENCE).json()["place"]
        if place is None:
            return False
        item = self.browser.get(f"{self.home}/api/item/{place}", timeout=PATIENCE).json()
        action, key = self.draw.choice(tuple(STATES)), item["mask_id"]
        body = {"place": place, "version": item["version"], "action": action}
        self.unanswered[key] = action
        if killer is not None:
            killer.start()
        url, origin = f"{self.home}/api/decision", {"Origin": self.home}
        self.browser.post(url, json=body, headers=origin, timeout=PATIENCE).raise_for_status()
        self.confirmed[key] = self.unanswered.pop(key)
        return True


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
    with suppress(requests.RequestException):
        for number in count():
            if number == last and not during:
                killer.start()
            if not client.decide(killer if number == last and during else None):
                break
    if not killer.is_alive():
        process.kill()  # also where no mask was left
    process.join()
    return "between two decisions" if len(client.unanswered) == before else "during a decision"


def check(root: Path, client: Client) -> tuple[int, int]:
    """How many confirmed decisions are lost or wrong, and how many decisions are doubled."""
    saved = DecisionLog(Workspace(root).reviews_path).decisions
    times = Counter(one.item for one in saved)
    actions = {one.item: one.action for one in saved}
    table = Workspace(root).read(MASKS).set_index("mask_id")["state"]
    lost = sum(
        actions.get(key) != action or table[key] != STATES[action]
        for key, action in client.confirmed.items()
    )
    foreign = set(actions) - set(client.confirmed) - set(client.unanswered)
    return lost + len(foreign), sum(number - 1 for number in times.values())


def main() -> None:
    """Kill, decide the rest, compare; exit code 1 if a confirmed decision is lost or doubled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    FORKS.set_forkserver_preload([__name__, "sono.annotation.review.server"])
    client, where = Client(random.Random(options.seed)), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        root, printed = Path(folder) / "study", Path(folder) / "printed"
        make_review_study(root, options.decisions)
        for number in range(1, options.kills + 1):
            where[life(root, printed, client)] += 1
            if number % 10 == 0:
                print(f"{number} kills, {len(client.confirmed)} confirmed", flush=True)
        last = start(root, printed)
        if len(client.confirmed) + len(client.unanswered) < options.decisions or client.unanswered:
            client.open(address_of(last, printed))
            while client.decide():
                pass
        last.kill()
        last.join()
        DecisionLog(Workspace(root).reviews_path)
        with suppress(Exception):
            serve(root, printed)  # writes what is left into the table, then finds nothing to review
        lost, doubled = check(root, client)
    print(f"{options.kills} kills: {dict(where)}")
    print(
        f"{len(client.confirmed)} confirmed decisions, {len(client.unanswered)} without an answer: "
        f"{lost} lost or wrong, {doubled} doubled"
    )
    sys.exit(lost + doubled > 0)


if __name__ == "__main__":
    main()
