"""What other masks a frame has, shown faintly while a new one is drawn."""

from typing import Any

from sono.annotation.exchange.rings import trace
from sono.annotation.masks import pixels
from sono.annotation.review.session import ReviewSession


def other_masks(session: ReviewSession, place: int) -> list[dict[str, Any]]:
    """The structures and outlines of the other masks of the frame at `place`, as decided by now.

    Left out are rejected masks, those of the same structure, and those of structures that are to be
    decided without a hint: blind, planted, second and disputed masks.
    """
    asked = session.items[place]
    on_frame = [one for one in list(session.items) if one.image_id == asked.image_id]
    rows = {str(row["mask_id"]): row for row in session.frames.mask_rows(asked.image_id)}
    rows |= {one.key: one.row for one in on_frame if one.kind in ("first", "new", "blind")}
    secret = {asked.structure} | {
        one.structure for one in on_frame if not one.decided and one.kind not in ("first", "new")
    }
    return [
        {"structure": row["structure"], "rings": [ring.tolist() for ring in trace(pixels(row))[0]]}
        for row in rows.values()
        if row["area"] and row["state"] != "rejected" and row["structure"] not in secret
    ]
