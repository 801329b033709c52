"""Rewrite captions with a language model; a rewrite that is not faithful is not used."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from sono.annotation.caption_facts import facts_of
from sono.annotation.captions import COLUMNS, caption_writer
from sono.annotation.findings import spoken
from sono.annotation.lint import LintRules, lint
from sono.annotation.rewriting.chat_client import ChatClient, NoAnswerError
from sono.annotation.rewriting.check import RewriteCheck
from sono.curation.core.atomic import check_inside, check_regular, open_regular, sha256
from sono.curation.core.console import progress
from sono.curation.core.errors import PrivacyError, SonoError, counted
from sono.curation.core.tables import CAPTIONS, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy, text_search

PROMPT = (
    "You rephrase the caption of a fetal ultrasound image in one plain English sentence. Keep "
    "every fact: the plane, the gestational age with weeks and days, each structure by its name, "
    "left and right, numbers with units, presentation and findings. Add nothing and leave nothing "
    "out. Answer with the sentence alone."
)
PREFIX = "rewrite-"  # of the template of a rewritten caption; a hash of model and prompt follows
ANSWERS = "rewrites.jsonl"  # in the study: every answer that was judged
CHARS_PER_TOKEN = 4  # of English text, about
MAX_FAILURES = 20  # in a row: then the server is given up


@dataclass(frozen=True)
class Task:
    """A text to rewrite, the findings of its record, and where in the captions table it is."""

    text: str
    findings: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class RewritePlan:
    """What is to be asked, and what is known from earlier runs."""

    template: str
    captions: int
    tasks: tuple[Task, ...]
    known: dict[str, dict[str, Any]]  # answers by the key of the text
    to_ask: tuple[Task, ...]

    @property
    def tokens(self) -> int:
        """About how many tokens the server reads and writes."""
        letters = sum(len(PROMPT) + 2 * len(task.text) for task in self.to_ask)
        return letters // CHARS_PER_TOKEN

    def __str__(self) -> str:
        return (
            f"{counted(self.captions, 'caption')} with {counted(len(self.tasks), 'text')}: "
            f"{len(self.tasks) - len(self.to_ask)} answered before, {len(self.to_ask)} to ask, "
            f"about {self.tokens:,} tokens"
        )


@dataclass(frozen=True)
class RewriteSummary:
    """Texts asked, accepted and refused (by code), and the captions that were added."""

    template: str
    asked: int
    accepted: int
    refused: dict[str, int]  # the caption of the template stays
    no_answer: dict[str, int]  # asked again in the next run
    not_asked: int  # the server was given up
    captions_added: int


def plan_rewrite(workspace: Workspace, client: ChatClient) -> RewritePlan:
    """What `rewrite_captions` would ask; nothing is sent.

    Raises PrivacyError if a caption has a private string, SonoError if there are no captions, or no
    vault with these strings.
    """
    workspace.require_vault()
    captions = workspace.captions().reset_index(drop=True)
    captions = captions[~captions["template"].str.startswith(PREFIX)]
    images = workspace.accepted_images(COLUMNS)
    findings = {image_id: facts.findings for image_id, facts in facts_of(images)}
    places: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for row, image_id, text in zip(
        captions.index, captions["image_id"], captions["text"], strict=True
    ):
        words = tuple(spoken(one) for one in findings.get(image_id, ()))
        named = tuple(one for one in words if one.casefold() in text.casefold())
        places.setdefault((text, named), []).append(row)
    tasks = tuple(Task(text, named, tuple(rows)) for (text, named), rows in places.items())
    _refuse_private(workspace, tasks)
    template = template_of(client.model)
    known = dict(_answers(workspace.root / ANSWERS))
    to_ask = tuple(task for task in tasks if answer_key(template, task) not in known)
    return RewritePlan(template, len(captions), tasks, known, to_ask)


def rewrite_captions(workspace: Workspace, client: ChatClient, plan: RewritePlan) -> RewriteSummary:
    """Ask the server of `client` for each text of `plan`, and add what is faithful as captions.

    Every answer is kept on the disk at once, so a run that ends early is continued by the next.
    Raises SonoError if the server cannot be reached at all, PrivacyError if an answer has private
    text.
    """
    rules = caption_writer(workspace, workspace.accepted_images(COLUMNS)).rules
    judge = partial(judged, rules, RewriteCheck(rules.planes))
    known = dict(plan.known)
    for task in plan.tasks:  # the file may have been edited since
        key = answer_key(plan.template, task)
        if text := known.get(key, {}).get("text"):
            known[key] = judge(task, text)
    with workspace.lock():
        answers, failed = _ask_all(workspace.root / ANSWERS, client, plan, judge)
        asked = len(answers) + failed.total()
        if failed and not answers:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in failed.items())
            raise SonoError(
                f"{client.url}: no answer to {counted(asked, 'caption')}: {reasons}; nothing was "
                f"changed; start the server, check --url and --model '{client.model}', and run "
                "the command again"
            )
        known |= answers
        added = _add(workspace, plan, known, rules)
    check_privacy(workspace)
    kept = [known[key] for task in plan.tasks if (key := answer_key(plan.template, task)) in known]
    refused = Counter(code for one in kept for code in one["refused"])
    return RewriteSummary(
        plan.template,
        asked,
        sum(not one["refused"] for one in kept),
        dict(sorted(refused.items())),
        dict(failed),
        len(plan.to_ask) - asked,
        added,
    )


def _ask_all(
    path: Path, client: ChatClient, plan: RewritePlan, judge: Callable[[Task, str], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """The judged answers by key, each kept at the end of the file `path`; and why others failed."""
    check_inside(path, path.parent)
    check_regular(path)
    answers: dict[str, dict[str, Any]] = {}
    failed: Counter[str] = Counter()
    in_a_row = 0
    with (
        path.open("a", encoding="utf-8") as log,
        progress("rewrite", len(plan.to_ask)) as advance,
    ):
        for task in plan.to_ask:
            try:
                answer = client.ask(PROMPT, task.text)
            except NoAnswerError as error:
                failed[str(error)] += 1
                in_a_row += 1
                if in_a_row == min(MAX_FAILURES, len(plan.to_ask)):
                    break
                continue
            in_a_row = 0
            key = answer_key(plan.template, task)
            answers[key] = judge(task, answer)
            line = {"key": key, "model": client.model, **answers[key]}
            log.write(json.dumps(line, ensure_ascii=False) + "\n")
            log.flush()
            advance()
    return answers, failed


def judged(rules: LintRules, check: RewriteCheck, task: Task, answer: str) -> dict[str, Any]:
    """The text of a faithful answer; of any other the codes alone, since it may hold anything."""
    codes = check.differences(task.text, answer, task.findings)
    if not codes:
        # terms were compared with those of the caption, so only the form is left to check
        form = lint(answer, rules, None, (), task.findings)
        codes = [code for code in form if code not in ("wrong_plane", "wrong_structure")]
    return {"refused": codes} if codes else {"text": answer, "refused": []}


def _add(
    workspace: Workspace, plan: RewritePlan, known: dict[str, dict[str, Any]], rules: LintRules
) -> int:
    """Write the captions table with the accepted rewrites of `plan`; the number of these rows."""
    captions = workspace.read(CAPTIONS).reset_index(drop=True)
    usable = workspace.captions().reset_index(drop=True)
    rows = rows_of(usable)
    made = []
    for task in plan.tasks:
        text = known.get(answer_key(plan.template, task), {}).get("text")
        if not text or text == task.text:
            continue
        tokens = rules.count_tokens(text)
        reviewed = dict.fromkeys(("state", "reviewer", "reviewed_at", "facts"))
        made += [
            rows[row] | {"text": text, "template": plan.template, "tokens": tokens} | reviewed
            for row in task.rows
        ]
    others = captions[captions["template"] != plan.template]
    # of several templates with one text of a frame, one rewrite is enough
    new = pd.DataFrame(made, columns=captions.columns).drop_duplicates(list(CAPTIONS.key))
    workspace.write(CAPTIONS, pd.concat([others, new.astype(others.dtypes)]))
    return len(new)


def _refuse_private(workspace: Workspace, tasks: tuple[Task, ...]) -> None:
    search = text_search(workspace)
    if search is None:
        return
    texts = "\n".join(task.text for task in tasks)
    found = search.found_at(Path("captions.parquet"), "column 'text'", texts)
    if found:
        raise PrivacyError(
            f"captions.parquet, column 'text': {counted(len(found), 'private string')} of the "
            "sources; nothing was sent; correct the records or the template, and build the "
            "captions again"
        )


def template_of(model: str) -> str:
    """The template of the captions that `model` rewrites: a hash of model and prompt."""
    return PREFIX + sha256("\0".join((model, PROMPT)).encode())[:8]


def answer_key(template: str, task: Task) -> str:
    """What an answer depends on: model, prompt, text and findings."""
    return sha256("\0".join((template, task.text, *task.findings)).encode())[:16]


def _answers(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answers of earlier runs; a line that a killed run has not finished is left out."""
    if not path.exists():
        return
    with open_regular(path) as file:
        for line in file:
            try:
                row = json.loads(line)
                known = {"refused": [str(one) for one in row["refused"]], "text": row.get("text")}
                if isinstance(known["text"], str | None):
                    yield str(row["key"]), known
            except (ValueError, TypeError, KeyError):
                continue
