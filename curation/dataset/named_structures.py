"""Which structures captions name, and how often."""

import re
from collections import Counter

import pandas as pd

from sono.curation.core.planes import PlaneTable


def named_structures(captions: pd.DataFrame, planes: PlaneTable) -> list[dict[str, object]]:
    """The structures in global captions with the number of captions, the most frequent first."""
    names = sorted(planes.structures, key=lambda name: (-len(name), name))
    pattern = re.compile(
        rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])", re.IGNORECASE
    )
    known = {name.casefold(): name for name in names}
    found: Counter[str] = Counter()
    for text, count in captions.loc[captions["level"] == "global", "text"].value_counts().items():
        for name in {known[match.casefold()] for match in pattern.findall(str(text))}:
            found[name] += int(count)
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return [{"structure": name, "captions": count} for name, count in ordered]
