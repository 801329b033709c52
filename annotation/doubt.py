"""How doubtful a proposal is: what its score leaves, or what other proposers contradict."""

from collections.abc import Container

import numpy as np
import pandas as pd

from sono.annotation.masks import SAME_STRUCTURE, dice, pixels

NO_SCORE = 0.5  # of a proposal without one


def with_doubt(masks: pd.DataFrame, frames: Container[str]) -> pd.DataFrame:
    """The masks with the doubt 0 to 1 of the proposals on these frames computed again.

    It is 1 minus the score, or 1 minus the agreement with the other proposers if that is more: the
    Dice with the nearest mask of each other source for the same structure, averaged.
    """
    mine = masks["image_id"].map(lambda name: name in frames) & (masks["state"] == "proposed")
    proposed = masks[mine]
    sure = proposed["score"].astype(float).fillna(NO_SCORE)
    for _, group in proposed.groupby(SAME_STRUCTURE, sort=False):
        if group["source"].nunique() > 1:
            sure.loc[group.index] = np.minimum(sure.loc[group.index], _agreement(group))
    doubt = masks["doubt"].astype(float) if "doubt" in masks else pd.Series(np.nan, masks.index)
    doubt.loc[proposed.index] = (1 - sure).clip(0, 1)
    return masks.assign(doubt=doubt)


def _agreement(group: pd.DataFrame) -> list[float]:
    """The agreement of each mask with those of other sources [group]."""
    sources, drawn = group["source"].tolist(), [pixels(row) for row in group.to_dict("records")]
    found = []
    for own, mask in zip(sources, drawn, strict=True):
        nearest: dict[str, float] = {}
        for source, other in zip(sources, drawn, strict=True):
            if source != own:
                nearest[source] = max(nearest.get(source, 0.0), dice(mask, other))
        found.append(float(np.mean(list(nearest.values()))))
    return found
