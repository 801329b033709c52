"""What a reviewer asks about a model: answered from the run, stated by the study, or not stated."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sono.annotation.release.card_config import CardConfig
from sono.annotation.release.questions import ASKED, NOT_STATED, stated
from sono.curation.core.errors import counted
from sono.evaluation.run_facts import RunFacts

NOT_MEASURED = "not measured"
BY_PEOPLE = "`[card]` of sono.toml"
DATA_CARD = "../../README.md (`sono card`)"
# keys of `[card]` that concern the model, too
STATED = (
    "purpose", "period", "collection", "ethics", "consent", "labels", "annotators", "biases",
    "limitations", "uses", "not_for", "funding", "license", "contact", "citation",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A question with its answer, and the file that shows it."""

    question: str
    text: str
    where: str = ""


def unanswered(asked: Sequence[Answer]) -> list[Answer]:
    """The questions without an answer."""
    return [one for one in asked if one.text in (NOT_STATED, NOT_MEASURED)]


def answers(facts: RunFacts, config: CardConfig) -> Iterator[Answer]:
    """Every question with its answer."""
    yield from _data(facts)
    yield from _training(facts)
    yield from _evaluation(facts)
    for key in STATED:
        yield Answer(ASKED[key], stated(config, key), BY_PEOPLE)


def _data(facts: RunFacts) -> Iterator[Answer]:
    info = facts.info
    yield Answer(
        "Where do the data come from?", ", ".join(info.centers_seen) or NOT_STATED, DATA_CARD
    )
    yield Answer(
        "Which patients and frames were left out, and why?",
        ", ".join(f"{count} {reason}" for reason, count in info.left_out.items())
        or "none of the accepted frames",
        DATA_CARD,
    )
    yield Answer(
        "How were frames prepared?",
        "cropped to the sector, printed text painted over, letterboxed to a square",
        "docs/geometry.md",
    )
    yield Answer(
        "How were they de-identified?", "names, dates and tags removed and searched for", DATA_CARD
    )
    yield Answer(
        "How were missing data treated?",
        "a frame without a plane is not used; a caption leaves out what is not recorded",
        "docs/records.md",
    )
    yield Answer(
        "At which level are the partitions disjoint?",
        "patients and near duplicates"
        + (
            f"; {counted(sum(info.without_patient.values()), 'frame')} without patient id count "
            "as patients of their own"
            if info.without_patient
            else ""
        ),
        "docs/splits.md",
    )
    yield Answer(
        "How large is the training set?",
        f"{counted(sum(info.planes_seen.values()), 'frame')}; patients with validation: "
        f"{len(info.patients_seen) or 'unknown'}",
        "run.json",
    )
    yield Answer("How was the sample size chosen?", NOT_STATED)
    yield Answer("What are the ages and other traits in each partition?", "ages", DATA_CARD)


def _training(facts: RunFacts) -> Iterator[Answer]:
    info, config = facts.info, facts.info.config
    yield Answer(
        "What is the model, with inputs and outputs?",
        f"{config.get('model', 'an imported model')} with a mask channel; a frame and a mask in, a "
        "feature out, which is compared with texts",
        "docs/models.md",
    )
    yield Answer(
        "Which software was used?",
        ", ".join(f"{name} {value}" for name, value in sorted(info.environment.items()) if name in (
            "sono", "torch", "open_clip_torch", "timm", "numpy", "python"))
        or NOT_STATED,
        "run.json",
    )  # fmt: skip
    yield Answer(
        "How were weights initialized?",
        str(info.origin or config.get("init") or config.get("start") or "the default of the model"),
        "run.json",
    )
    yield Answer("How was it trained?", "all settings and the seed are stored", "run.json, log.csv")
    yield Answer(
        "How was the final model chosen?",
        "best Top-1 on validation frames"
        if facts.checkpoint.name == "best"
        else "the last state of the training",
        "summary.json",
    )
    yield Answer("Were models combined?", "no")
    yield Answer("Does it update itself while it is used?", "no")


def _evaluation(facts: RunFacts) -> Iterator[Answer]:
    found = facts.evaluations
    reports = ", ".join(f"eval/{name}/report.html" for name in found)
    inside = [name for name, metrics in found.items() if not metrics.get("center")]
    outside = [name for name, metrics in found.items() if metrics.get("center")]
    yield Answer("Was it tested on other patients of the same centers?", _listed(inside), reports)
    yield Answer("Was it tested on a center that it has not seen?", _listed(outside), reports)
    some = bool(found)
    measured = {
        "Which measures of performance are given?": "Top-1 and Top-5, macro and micro, F1, recall",
        "How is uncertainty given?": "95 % intervals over patients",
        "Are controls and baselines given?": "constant answers, masks of other frames, chance",
        "Where does it fail?": "confusion matrix, recall of each plane, hardest frames",
        "Does it depend on the wording of prompts?": "each prompt alone, with the worst",
    }
    for question, text in measured.items():
        yield Answer(question, text if some else NOT_MEASURED, reports)
    yield Answer("Which group of patients or machines is worst?", _each(found, _worst), reports)
    yield Answer("How well is it calibrated?", _each(found, _calibration), reports)
    yield Answer("How does it treat frames of no plane?", _each(found, _refusal), reports)
    yield Answer("Can its answers be explained?", _each(found, _steering), reports)
    yield Answer("Was it compared with readers?", NOT_MEASURED)
    yield Answer("Was fairness by ethnicity or income of patients measured?", NOT_MEASURED)
    yield Answer("Was its use in clinical routine tried?", NOT_MEASURED)
    yield Answer("Was a trial registered?", NOT_STATED)
    yield Answer(
        "Where are code and model?", "sono; the checkpoint is in this folder", "model.json"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or NOT_MEASURED


def _each(
    found: Mapping[str, Mapping[str, Any]], describe: Callable[[Mapping[str, Any]], str]
) -> str:
    texts = {name: describe(metrics) for name, metrics in found.items()}
    return "; ".join(f"{name}: {text}" for name, text in texts.items() if text) or NOT_MEASURED


def _worst(metrics: Mapping[str, Any]) -> str:
    return str(metrics["strata"].get("worst") or "")


def _calibration(metrics: Mapping[str, Any]) -> str:
    error = metrics["probabilities"]["measures"]["fitted"]["calibration_error"]
    return f"calibration error {100 * error:.1f} %"


def _refusal(metrics: Mapping[str, Any]) -> str:
    refusal = metrics["probabilities"]["refusal"]
    return "" if not refusal.get("frames") else f"measured on {counted(refusal['frames'], 'frame')}"


def _steering(metrics: Mapping[str, Any]) -> str:
    steers = metrics["region_control"]["verdict"]["steers"]
    return (
        "" if steers is None else "the mask steers it" if steers else "the mask does not steer it"
    )
