"""Check that a workspace shows everything that `sono phantom` planted.

Prints a table; the exit code is 1 if something was missed.

Usage: python benchmarks/planted.py STUDY EXPORT
"""

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

from sono.curation.core.tables import read_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

# Tensors and compressed pixels are not text; the gate has searched the rest of these files.
BINARY = {".safetensors", ".pt", ".png"}


def rows_by_path(study: Workspace) -> dict[Path, list[tuple[str, list[str]]]]:
    """(status, codes) of every frame, by resolved source path."""
    images = study.images().set_index(["source_id", "frame"])
    found: dict[Path, list[tuple[str, list[str]]]] = {}
    for source in read_table(study.sources_path, SOURCES).itertuples():
        row = images.loc[(source.source_id, source.frame)]
        found.setdefault(Path(os.fsdecode(source.path)).resolve(), []).append(
            (row["status"], list(row["reasons"]))
        )
    return found


def check_files(
    truth: dict, export: Path, rows: dict[Path, list[tuple[str, list[str]]]]
) -> pd.DataFrame:
    """One row per kind of planted file.

    A row has the number of files, and of those with an expected status and code.
    """
    planted, found, missed = Counter(), Counter(), {}
    for path, facts in truth["files"].items():
        if not facts["planted"]:
            continue
        kind, expected = facts["planted"], facts["expected"]
        frames = rows.get((export / path).resolve(), [])
        right = bool(frames) and all(status in expected["statuses"] for status, _ in frames)
        accepted_as_is = not expected["codes"] or {"accepted", "rejected"} <= set(
            expected["statuses"]
        )
        right &= accepted_as_is or any(set(codes) & set(expected["codes"]) for _, codes in frames)
        planted[kind] += 1
        found[kind] += right
        if not right:
            missed.setdefault(kind, []).append(f"{path}: {frames}")
    for kind, lines in missed.items():
        sys.stderr.write(f"missed {kind}: " + "; ".join(lines) + "\n")
    return pd.DataFrame({"planted": planted, "found": found}).fillna(0).astype(int)


def check_pairs(truth: dict, export: Path, study: Workspace) -> tuple[int, int]:
    """Planted duplicate pairs, and those that share a duplicate group."""
    images = study.images()
    sources = read_table(study.sources_path, SOURCES)
    groups = dict(zip(images["source_id"], images["duplicate_group"], strict=True))
    ids = {
        Path(os.fsdecode(path)).resolve(): source
        for path, source in zip(sources["path"], sources["source_id"], strict=True)
    }
    found = 0
    for pair in truth["duplicates"]:
        names = {groups.get(ids.get((export / path).resolve())) for path in pair["files"]}
        together = len(names) == 1 and isinstance(next(iter(names)), str)
        found += together
        if not together:
            sys.stderr.write(f"missed duplicate pair: {pair}\n")
    return len(truth["duplicates"]), found


def leaks(truth: dict, study: Workspace) -> int:
    """Private values of 5 letters or more in any byte or name of the workspace.

    Tables are searched as text.
    """
    values = [value for value in truth["private_values"] if len(re.sub(r"\W", "", value)) >= 5]
    haystack = []
    for file in sorted(study.root.rglob("*")):
        haystack.append(str(file.relative_to(study.root)))
        if file.suffix == ".parquet":
            haystack.append(pd.read_parquet(file).to_csv())
        elif file.is_file() and file.suffix not in BINARY:
            haystack.append(file.read_bytes().decode("latin-1"))
    text = "\n".join(haystack).casefold()
    hits = [value for value in values if value.casefold() in text]
    for value in hits:
        sys.stderr.write(f"leaked: {value}\n")
    return len(hits)


def main() -> int:
    study, export = Workspace.find(Path(sys.argv[1])), Path(sys.argv[2])
    truth = json.loads((export / "truth.json").read_text())
    table = check_files(truth, export, rows_by_path(study))
    pairs, together = check_pairs(truth, export, study)
    leaked = leaks(truth, study)
    print(table.to_string())
    print(f"duplicate pairs: {together} of {pairs} in one group")
    print(f"private values in the workspace: {leaked} of {len(truth['private_values'])}")
    return int(bool((table["found"] < table["planted"]).any()) or together < pairs or leaked > 0)


if __name__ == "__main__":
    sys.exit(main())
