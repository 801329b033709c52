"""Plant errors of 19 kinds in captions and count what the caption lint finds.

Captions of random facts are written by the built-in template sets; in half of them one error is
planted. Prints recall and precision of each kind and the rate of false alarms on the others.

Usage: python benchmarks/lint.py [--captions 10000] [--seed 0]
"""

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sono.annotation.caption_facts import Facts, ga_in_words
from sono.annotation.caption_writer import CaptionWriter
from sono.annotation.captioning.lint_report import ERRORS, CaptionLinter
from sono.annotation.captioning.record_checks import RecordChecks
from sono.annotation.clip_tokens import clip_token_counter
from sono.annotation.findings import mention_findings
from sono.annotation.lint import LintRules
from sono.curation.clinical.findings import FINDINGS
from sono.curation.core.planes import PlaneTable
from sono.templates.loader import BUILT_IN, load_templates

PLANES = PlaneTable()
BANNED = ("St. Anna", "Voluson E10", "Hospital Norte")
PRIVATE = ("Lindqvist", "MRN70012")
FETAL = tuple(name for name, one in FINDINGS.items() if one.places)
GRAMMAR = ("at 1 weeks", "at 22-weeks", "at 22 week", "at 3 weeks and 1 days", "at 22.4 weeks")
SENTENCE = (
    "acoustic window lies below maternal wall while gain depth focus zone frame rate power thermal "
    "index dynamic range persistence speckle filter gray map tint line density sector width angle "
    "probe preset harmonic imaging compound steering zoom pan cine loop memory still capture store "
    "export print label text arrow body mark clock date time zone battery level network status ok "
    "green red blue white black amber one two three four five six seven eight nine ten"
)


@dataclass(frozen=True)
class Planted:
    """A caption with an error of a kind; "" for none. `codes` are all that may be found in it."""

    text: str
    facts: Facts
    kind: str
    codes: frozenset[str]


def _insert(text: str, piece: str, rng: random.Random) -> str:
    """`piece` between two words."""
    words = text.split(" ")
    place = rng.randint(1, len(words) - 1)
    return " ".join([*words[:place], piece, *words[place:]])


def _ends(text: str, piece: str) -> str:
    return f"{text.rstrip('.')}{piece}."


def _other_age(text: str, facts: Facts, rng: random.Random) -> str:
    days = (facts.ga_days or 140) + rng.choice((-14, -7, 7, 14))
    if (days + 1) % 7:  # 8 weeks are not wrong for 8 weeks and 1 day
        days += 1
    words = ga_in_words(facts.ga_days)
    if words and words in text:
        return text.replace(words, str(ga_in_words(days)))
    weeks = (facts.ga_days or 140) // 7
    if f" {weeks}-week" in text:
        article = {True: "An", False: "A"}[weeks + 2 in (8, 11, 18)]
        return re.sub(rf"^An? {weeks}-week", f"{article} {weeks + 2}-week", text)
    return _ends(text, f", at {ga_in_words(days)} of gestation")


def _other_plane(text: str, facts: Facts, rng: random.Random) -> str:
    own = PLANES.by_id[str(facts.plane)]
    structures = set(PLANES.structures)
    others = [plane.name for plane in PLANES.planes if plane.name not in {own.name, *structures}]
    name = rng.choice(others)
    return _ends(text.replace(own.name, name), f", {name} plane")


def _other_structure(text: str, facts: Facts, rng: random.Random) -> str:
    own = set(PLANES.by_id[str(facts.plane)].structures)
    names = {plane.name for plane in PLANES.planes}
    others = [name for name in PLANES.structures if name not in own | names]
    return _ends(text, f" and the {rng.choice(others)}")


def _other_finding(facts: Facts, rng: random.Random) -> str:
    own = set(facts.findings)
    parts = {word for one in own for word in (one, *one.split())}
    return rng.choice([name for name in FETAL if name not in own and not parts & set(name.split())])


def _other_side(text: str, facts: Facts, rng: random.Random) -> str:
    if facts.laterality in ("left", "right") and f"the {facts.laterality} side" in text:
        other = "right" if facts.laterality == "left" else "left"
        return text.replace(f"the {facts.laterality} side", f"the {other} side")
    side = rng.choice([one for one in ("left", "right") if facts.laterality not in (one, "both")])
    return _ends(text, f", on the {side} side") if side else text


def _no_side(facts: Facts) -> Facts:
    return facts._replace(laterality=None) if facts.laterality == "both" else facts


Plant = Callable[[str, Facts, random.Random], str]
# What is planted, and the codes that are right for it besides its own.
KINDS: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "residue": (
        lambda t, f, r: _insert(t, r.choice(("{{ ga }}", "None", "nan", "{% if %}")), r),
        ("wrong_side", "wrong_region", "wrong_structure")),
    "blanks": (lambda t, f, r: r.choice((_insert(t, "", r), f"{t} ", f"{t.rstrip('.')} .")),
        ("wrong_structure",)),
    "control_character": (
        lambda t, f, r: _insert(t, r.choice(("\u200b", "\x07", "\u202e", "\ufffd")), r),
        ("wrong_side", "wrong_region", "wrong_structure")),
    "ga_grammar": (
        lambda t, f, r: _ends(t, f", {r.choice(GRAMMAR)}"), ("wrong_age", "ga_range")),
    "ga_range": (
        lambda t, f, r: _ends(t, f", at {r.choice((2, 3, 46, 51))} weeks"), ("wrong_age",)),
    "article": (
        lambda t, f, r: _ends(t, r.choice((", a ultrasound", ", an scan", ", a image"))), ()),
    "doubled_word": (lambda t, f, r: re.sub(r"\bfetal\b|^The\b", r"\g<0> \g<0>", t, count=1), ()),
    "punctuation": (lambda t, f, r: r.choice((f"{t},", f"{t}..", f",{t}", f"{t} ()")), ()),
    "identifier": (
        lambda t, f, r: _ends(t, f", {r.choice(('2019-04-03', '1234567', 'IM_01.dcm', '3.4.19'))}"),
        ()),
    "banned": (lambda t, f, r: _ends(t, f", {r.choice(BANNED)}"), ()),
    "private": (lambda t, f, r: _ends(t, f", {r.choice(PRIVATE)}"), ("identifier",)),
    "too_long": (lambda t, f, r: _ends(t, f"; {SENTENCE}"), ()),
    "wrong_age": (_other_age, ()),
    "wrong_plane": (_other_plane, ("wrong_structure", "wrong_region")),
    "wrong_structure": (_other_structure, ()),
    "wrong_side": (_other_side, ()),
    "wrong_size": (
        lambda t, f, r: _ends(t, f", {r.choice(('987.5 mm', '98.7 cm', '0.3 mm'))} long"), ()),
    "wrong_finding": (lambda t, f, r: _ends(t, f"; finding: {_other_finding(f, r)}"),
        ("wrong_structure",)),
    "negation": (
        lambda t, f, r: _ends(t, f"; no {_other_finding(f, r)}"),
        ("wrong_finding", "wrong_structure")),
}  # fmt: skip


def random_facts(rng: random.Random) -> Facts:
    """Facts as a record may hold them, with the structures of masks."""
    plane = rng.choice(PLANES.planes)
    first, last = plane.weeks or (14, 40)
    shown = mention_findings(FETAL, plane).plane
    side = {"one": ("left", "right", None), "both": ("both",)}.get(plane.sides, (None,))
    return Facts(
        plane.id,
        plane.region,
        rng.choice((None, rng.randint(first * 7, last * 7))),
        tuple(name for name in plane.structures if rng.random() < 0.7),
        None,
        rng.choice(side),
        rng.choice((None, "cephalic", "breech", "transverse")),
        (rng.choice(shown),) if shown and rng.random() < 0.3 else (),
        (("fl_mm", round(rng.uniform(10, 70), 1)),),
    )


def plant(count: int, seed: int) -> list[Planted]:
    """`count` captions of the built-in sets; every second one has an error."""
    rng = random.Random(seed)
    rules = LintRules(clip_token_counter(), PLANES, frozenset(BANNED))
    writers = [CaptionWriter(load_templates(name), rules) for name in BUILT_IN]
    kinds, found = list(KINDS), []
    for number in range(count):
        kind = kinds[number // 2 % len(kinds)] if number % 2 else ""
        facts = random_facts(rng)
        if facts.structures and rng.random() < 0.3:
            facts = facts._replace(structure=facts.structures[0])
        facts = _no_side(facts) if kind == "wrong_side" else facts
        text = rng.choice(writers).write(facts).text
        right: tuple[str, ...] = ()
        if kind:
            change, right = KINDS[kind]
            before, text = text, change(text, facts, rng)
            if text == before:  # a short caption has no such word
                text, kind, right = _ends(text, ", of of it"), "doubled_word", ()
        found.append(Planted(text, facts, kind, frozenset((kind, *right))))
    return found


def linter() -> CaptionLinter:
    """The linter of a study with the banned and private words above."""
    rules = LintRules(clip_token_counter(), PLANES, frozenset(BANNED))
    writer = CaptionWriter(load_templates("standard"), rules)
    checks = RecordChecks(PLANES, frozenset(FINDINGS))
    return CaptionLinter(writer, checks, lambda text: any(word in text for word in PRIVATE))


def score(planted: list[Planted]) -> dict[str, tuple[int, float, float]]:
    """Number, recall and precision of each kind; "" has the share of clean captions that pass."""
    judge = linter()
    hits, wrong, number = Counter[str](), Counter[str](), Counter[str]()
    for one in planted:
        masked = tuple(sorted(one.facts.structures))
        codes = {code for code in judge.codes(one.text, one.facts, masked) if code in ERRORS}
        number[one.kind] += 1
        hits[one.kind] += one.kind in codes if one.kind else not codes
        wrong.update(codes - one.codes)
    return {
        kind: (
            number[kind],
            hits[kind] / number[kind],
            hits[kind] / (hits[kind] + wrong[kind]) if hits[kind] else 0.0,
        )
        for kind in (*KINDS, "")
    } | {code: (0, 0.0, 0.0) for code in wrong if code not in KINDS}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    planted = plant(options.captions, options.seed)
    start = time.process_time()
    found = score(planted)
    seconds = time.process_time() - start
    print(f"{'kind':20} planted  recall  precision")
    for kind, (number, recall, precision) in found.items():
        print(f"{kind or 'none (passes)':20} {number:7}  {recall:6.4f}  {precision:9.4f}")
    print(f"{len(planted) / seconds:,.0f} captions a CPU second")


if __name__ == "__main__":
    main()
