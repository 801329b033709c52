"""The card of a run: what the model is, what it has seen, how it was scored, what is not known."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sono import __version__
from sono.annotation.release.card_config import CardConfig
from sono.annotation.release.questions import NOT_STATED
from sono.annotation.weights.weight_files import short
from sono.curation.core.atomic import read_regular, write_text
from sono.curation.core.errors import SonoError
from sono.curation.core.markdown import harmless, markdown_table
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.curation.privacy.own_texts import CARD
from sono.evaluation.checklist import (
    ANSWERED,
    BEST_SCORE,
    BY_PEOPLE,
    NOT_MEASURED,
    Answer,
    Item,
    address_of,
    answers,
    checklist,
)
from sono.evaluation.partitions import HEADINGS
from sono.evaluation.result_tables import MISSING, PERCENT
from sono.evaluation.run_facts import RunFacts, run_facts, started_from
from sono.evaluation.statistics.bootstrap import Interval
from sono.templates.reports import guidelines, items_answered_by
from sono.training.model.checkpoints import RunInfo, find_run

MARK = "<!-- card of a run, written by sono -->\n"


@dataclass(frozen=True)
class ModelCardSummary:
    """Where the card is, its evaluations, and the questions that it does not answer."""

    path: Path
    evaluations: tuple[str, ...]
    not_stated: tuple[str, ...]
    not_measured: tuple[str, ...]
    items_filled: int  # of reporting guidelines, of `items_knowable`, those that a tool can know
    items_knowable: int
    private_strings: int


def write_model_card(workspace: Workspace, run: str | None = None) -> ModelCardSummary:
    """Write the card of a run (None: the newest) as README.md into its folder.

    Raises PrivacyError if something private is found in the study, SonoError if the run does not
    exist, an evaluation is damaged, or the README.md there is no card.
    """
    folder = find_run(workspace, run)
    if folder.parent != workspace.runs:
        raise SonoError(f"{folder}: is a checkpoint; give its run, '{folder.parent.name}'")
    target = folder / CARD
    if target.exists() and not read_regular(target).startswith(MARK.encode()):
        raise SonoError(f"{target}: is not a card of sono; move it, it would be overwritten")
    facts, config = (
        run_facts(folder, workspace.accepted_images()),
        workspace.settings("card", CardConfig),
    )
    try:
        asked = list(answers(facts, config))
        text = card_text(facts, asked, workspace.planes())
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SonoError(
            f"{folder}: its record or an evaluation has other fields than sono writes "
            f"({type(error).__name__}: {short(error)}); run `sono eval` again"
        ) from error
    write_text(target, MARK + text)
    missing = [one for one in asked if not one.is_given]
    knowable = [item for item in checklist(asked) if item.is_knowable]
    return ModelCardSummary(
        target,
        tuple(facts.evaluations),
        tuple(one.question for one in missing if one.text == NOT_STATED),
        tuple(one.question for one in missing if one.text == NOT_MEASURED),
        sum(item.state == ANSWERED for item in knowable),
        len(knowable),
        check_privacy(workspace),
    )


def card_text(facts: RunFacts, asked: list[Answer], planes: PlaneTable) -> str:
    """The card in Markdown."""
    own = [one for one in asked if one.where != BY_PEOPLE]
    items = checklist(asked)
    parts = [
        f"# Model card of {facts.info.name}",
        "A CLIP model for fetal ultrasound with a mask channel: it compares a frame, or the part "
        "of a frame under a mask, with texts. Research software, not a medical device.",
        "## Model",
        markdown_table(("property", "value"), _model(facts)),
        "## Training data",
        _training(facts.info, planes),
        "## Partitions",
        "The accepted frames as they are now. Without a patient id, each study or file counts as a "
        "patient.",
        markdown_table(HEADINGS, facts.partitions),
        "## Results",
        _results(facts),
        "## Limits",
        "\n".join(f"- {harmless(limit)}" for limit in _limits(facts)),
        "## Use",
        _use(facts.info),
        "## Questions of a reviewer",
        f"The files of the run answer {sum(one.is_given for one in own)} of {len(own)} questions; "
        f"the other {len(asked) - len(own)} are for people to answer, in `[card]` of `sono.toml`.",
        markdown_table(
            ("question", "answer", "where", "items"),
            [(one.question, one.text, one.where, items_answered_by(one.key)) for one in asked],
        ),
        "## Checklists",
        _filled(items),
        *(
            text
            for name in guidelines()
            for text in (f"### {name}", _items([one for one in items if one.guideline == name]))
        ),
        f"Made by sono {__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def _filled(items: list[Item]) -> str:
    knowable = [item for item in items if item.is_knowable]
    filled = sum(item.state == ANSWERED for item in knowable)
    counts = Counter(item.state for item in items)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return (
        f"{filled} of {len(knowable)} items that a tool can know are filled. Of all {len(items)} "
        f"items of the guidelines, whose subjects are in our words: {states}. Open are those that "
        "`sono` can measure and has not; those for people belong into `[card]` of `sono.toml`."
    )


def _items(items: list[Item]) -> str:
    return markdown_table(
        ("item", "subject", "state", "answer", "where"),
        [(item.number, item.subject, item.state, item.text, item.where) for item in items],
    )


def _model(facts: RunFacts) -> Iterator[tuple[str, str]]:
    info, config, environment = facts.info, facts.info.config, facts.info.environment
    yield "image tower", str(config.get("model", MISSING))
    yield "text tower", str(config.get("text", MISSING))
    yield "parameters in the checkpoint", f"{facts.weights:,}"
    yield "image size", f"{config.get('image_size') or 'of the architecture'} pixels"
    yield "started from", started_from(info)
    yield "prompts", f"template set {info.template}"
    yield "checkpoint", _checkpoint(facts)
    yield "seed", str(config.get("seed", MISSING))
    software = [
        f"{name} {environment[name]}" for name in ("sono", "torch", "timm") if name in environment
    ]
    yield "made with", ", ".join(software) or MISSING
    yield "commit", str(environment.get("commit", MISSING))


def _checkpoint(facts: RunFacts) -> str:
    best = facts.summary.get("best_epoch")
    if facts.checkpoint.name == "best" and best:
        score = facts.summary.get("best_score")
        found = "" if score is None else f" ({100 * float(score):.1f} %)"
        return f"epoch {best} of {facts.summary.get('epochs', '?')}: the {BEST_SCORE}{found}"
    return f"{facts.checkpoint.name}: the last state, not chosen by validation"


def _training(info: RunInfo, planes: PlaneTable) -> str:
    frames = sum(info.planes_seen.values())
    rows = [
        ("centers", ", ".join(info.centers_seen) or "not recorded"),
        ("held-out centers", ", ".join(info.held_out) or "none"),
        ("patients, with those of validation", len(info.patients_seen) or "unknown"),
        ("frames, with those of validation", len(info.image_ids_seen)),
        ("frames of a plane in training", frames),
        *((f"not used: {reason}", count) for reason, count in info.left_out.items()),
        ("hash of the data", info.data_hash),
    ]
    names = {plane.id: plane.name for plane in planes.planes}
    seen = sorted(info.planes_seen.items(), key=lambda row: (-row[1], row[0]))
    shown = [(names.get(plane, plane), count) for plane, count in seen]
    tables = markdown_table(("what", "value"), rows), markdown_table(("plane", "frames"), shown)
    return "\n\n".join(tables)


def _results(facts: RunFacts) -> str:
    if not facts.evaluations:
        return f"Not evaluated: run `sono eval --run {facts.info.name}`."
    titles = (
        "frames",
        "patients",
        "Top-1 macro",
        "Top-1 macro among all planes",
        "region naming",
        "region naming without a mask",
    )
    rows = []
    for name, metrics in facts.evaluations.items():
        every = f"top1_macro_of_{len(metrics['candidates'])}"
        modes = metrics["groups"][0]["modes"]["all_one"]
        rows.append(
            (
                f"[{name}](eval/{address_of(name)}/report.html)",
                metrics["frames"],
                metrics["patients"] or "unknown",
                _percent(modes.get("top1_macro")),
                _percent(modes.get(every)),
                _percent(_naming(metrics, "own")),
                _percent(_naming(metrics, "all_one")),
            )
        )
    table = markdown_table(("evaluation", *titles), rows)
    texts = [
        f"**{name}.** {harmless(metrics['first_line'])}. "
        f"{metrics['region_control']['verdict']['text']} {metrics['verdict']['text']}"
        for name, metrics in facts.evaluations.items()
    ]
    note = (
        "In percent, with 95 % intervals over patients. The candidates are the planes present, all "
        "planes of the study, and the structures of the frame's plane."
    )
    return "\n\n".join([table, note, *texts])


def _naming(metrics: Mapping[str, Any], condition: str) -> Mapping[str, float | None] | None:
    conditions = metrics["region_control"].get("conditions", {})
    found: Mapping[str, float | None] | None = conditions.get(condition, {}).get("in_plane")
    return found


def _percent(found: Mapping[str, float | None] | None) -> str:
    return MISSING if found is None else PERCENT.text(Interval.from_dict(found))


def _limits(facts: RunFacts) -> Iterator[str]:
    info = facts.info
    if len(info.centers_seen) < 2:
        yield "Trained on one center; other machines and habits may differ."
    if not any(metrics.get("center") for metrics in facts.evaluations.values()):
        yield "Not evaluated on a center that it has not seen."
    for name, metrics in facts.evaluations.items():
        if metrics.get("center_seen") or metrics.get("seen_frames"):
            yield f"{name}: these frames were in training, so the numbers show what it remembers."
        worst = metrics["strata"].get("worst")
        if worst:
            pair = metrics["strata"].get("worst_pair")
            also = f", the worst pair of groups {pair}" if pair else ""
            yield f"{name}: the worst group of frames is {worst}{also}."
        yield from (f"{name}: {note}" for note in metrics.get("notes", ()))
    yield "It always names a plane, also for frames of no plane, with a lower confidence at best."
    yield "What it does on abnormal anatomy was not measured."


def _use(info: RunInfo) -> str:
    code = (
        "```python\nimport sono\n\n"
        f'model = sono.load_model("runs/{info.name}")\n'
        'crop = sono.read_image("IM_0001.dcm")[0].crop\n'
        "model.classify(crop)\n```"
    )
    return f"{code}\n\n`sono predict IM_0001.dcm --run {info.name}` does the same for files."
