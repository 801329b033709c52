"""The protocol of mask proposers, and a proposer without weights (ellipses and sticks)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sono.annotation import guesses
from sono.annotation.bones import BoneModel, bone_mask, find_bones
from sono.annotation.echo_maps import EchoMaps, echo_maps
from sono.annotation.ellipses import EllipseModel, ellipse_mask, find_ellipses
from sono.annotation.search import Around, Found
from sono.curation.core.atomic import sha256
from sono.curation.core.geometry import bounding_box
from sono.curation.core.planes import PlaneTable

VERSION = 2  # of the search; after a change `sono masks propose` runs again

MAX_ASPECT = 4  # a longer strip is no sector
HYPOTHESIS = "hypothesis"  # the type in the prompt of a structure that no plane confirms
LEAST_SCORE = -90.0  # lower ones are of impossible shapes


class Box(NamedTuple):
    """A half-open box in stored pixels and the structure in it."""

    structure: str
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Proposal:
    """A proposed mask [H, W]; `score` and `stability` are in 0..1.

    `prompt` is JSON text, if there was one.
    """

    structure: str | None
    mask: NDArray[np.bool_]
    score: float
    stability: float
    prompt: str | None = None


@dataclass(frozen=True)
class Prompt:
    """What a person points at in a frame, in stored pixels: a half-open box, or a point x, y."""

    structure: str
    box: tuple[int, int, int, int] | None = None
    point: tuple[int, int] | None = None

    def as_json(self) -> str:
        """The text of the column `prompt`."""
        if self.box is not None:
            return json.dumps({"type": "box", "xyxy": list(self.box)})
        return json.dumps({"type": "point", "xy": list(self.point or ())})


def box_of(structure: str, mask: NDArray[np.bool_]) -> Box:
    """The tight box of a mask [H, W] that is not empty."""
    x, y, width, height = bounding_box(mask)
    return Box(structure, x, y, x + width, y + height)


class Proposer(Protocol):
    """Anything that looks at a frame and proposes masks; must give the same for the same frame."""

    @property
    def source(self) -> str:
        """One of MASK_SOURCES."""

    @property
    def model_hash(self) -> str | None:
        """Changes when the proposals would."""

    def propose(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        """Proposals for a frame [H, W] of `plane`, or of an unknown one."""


@dataclass(frozen=True)
class Kind:
    """A kind of outline: its model, and the logistic curve from score to quality.

    The curve has the score at which half of the masks reach a Dice of 0.8, and its slope.
    """

    model: EllipseModel | BoneModel
    even: float
    spread: float


LARGE = (0.17, 0.21, 0.26, 0.31, 0.36, 0.41, 0.46)
# Constants from random trials around values set by hand, on half of the patients of the development
# data.
HEAD_MODEL = EllipseModel(
    gain=5.35, floor=0.0, beyond=0.045, edge=0.4, depth=3.2, rise=0.2, bright=-0.09, hollow=0.0,
    lateral=0.54, weakest=0.4, radius=0.56, size=0.2, off_x=0.27, off_y=0.11, middle_y=0.03,
    flat=0.18, upright=0.02, margin=(2.6, 1.6), radii=(0.11, 0.14, *LARGE),
)  # fmt: skip
HEAD = Kind(HEAD_MODEL, even=0.81, spread=0.12)
ABDOMEN = Kind(
    EllipseModel(
        gain=7.1, floor=0.155, beyond=0.02, edge=0.043, depth=3.6, rise=0.2, bright=0.16,
        hollow=0.2, lateral=0.57, weakest=0.18, radius=1.0, size=0.2, off_x=0.28, off_y=0.245,
        middle_y=-0.27, flat=0.045, upright=0.164, margin=(1.0, 1.0), radii=LARGE,
    ),
    even=0.39,
    spread=0.14,
)  # fmt: skip
BONE = Kind(
    BoneModel(
        inset=0.1, flank=0.132, margin=1.7, brighter_side=0.77, floor=0.34, ceiling=2.17, past=0.1,
        continuity=0.6, ends=0.236, bright=0.33, shadow=0.15, length=0.55, size=0.7, tilt=0.25,
        off_x=0.3, off_y=0.25, middle_y=0.52, bow=3.07,
    ),
    even=2.6,
    spread=1.08,
)  # fmt: skip
KINDS = {"fetal head": HEAD, "fetal abdomen": ABDOMEN}  # all other outlines are bones
# What an outline is called where the plane is unknown; the longest bone of most exams is the femur.
# Small heads are sought only on planes of the head: their outlines fit parts of other planes, too.
HYPOTHESES = {
    **KINDS,
    "fetal head": replace(HEAD, model=replace(HEAD_MODEL, radii=LARGE)),
    "femur": BONE,
}


# Log odds of head, abdomen, bone (rows) from the best score of each (columns) and a constant: a
# logistic regression.
CHOICE = np.array([[6.4, 1.7, 0.1, -6.6], [-3.8, 4.3, -2.2, 5.3], [-2.6, -6.0, 2.1, 1.3]])


@dataclass(frozen=True)
class OutlineProposer:
    """Fits the outline that the plane is known for; it has no weights.

    `outlines` are the structures to outline by plane id.
    """

    outlines: Mapping[str, str] = field(default_factory=lambda: PlaneTable().outlines)
    source: ClassVar[str] = "heuristic"

    @cached_property
    def model_hash(self) -> str:
        """Of the version, all constants, and the outlines of a study's own planes."""
        own = sorted(self.outlines.items() - PlaneTable().outlines.items())
        known = (VERSION, HEAD, ABDOMEN, BONE, CHOICE.tolist(), guesses.ABDOMEN, *own)
        return sha256(repr(known).encode())[:16]

    def propose(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        """The outline of `plane`; nothing for planes without one.

        If the plane is unknown, the most convincing of head, abdomen and femur, with the share of
        its odds in its prompt; nothing if that is an abdomen by its outline alone.
        """
        if plane is None:
            return [guess for guess in propose_each_kind(gray)[:1] if _stands(gray, guess)]
        if _hopeless(gray):
            return []
        maps = echo_maps(gray)
        structure = self.outlines.get(plane)
        if structure is None:
            return []
        kind = KINDS.get(structure, BONE)
        return [replace(_proposal(maps, gray.shape, kind, _find(maps, kind)), structure=structure)]

    def takes(self, structure: str) -> bool:
        """Whether `prompted` knows what an outline of the structure looks like."""
        return structure in KINDS or structure in self.outlines.values()

    def prompted(self, gray: NDArray[np.uint8], prompt: Prompt) -> Proposal | None:
        """The outline of the structure within a box of a person, or None if there is nothing."""
        if prompt.box is None or _hopeless(gray):
            return None
        maps, kind = echo_maps(gray), KINDS.get(prompt.structure, BONE)
        x0, y0, x1, y1 = (edge * maps.scale for edge in prompt.box)
        found = _find(maps, kind, Around((x0, y0, x1, y1)))
        if found.scores[0] < LEAST_SCORE:
            return None
        return replace(
            _proposal(maps, gray.shape, kind, found),
            structure=prompt.structure,
            prompt=prompt.as_json(),
        )


def propose_unlabeled(gray: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The most convincing outline in a frame [H, W], found without any label.

    The result is None for an empty frame or a strip.
    """
    found = propose_each_kind(gray)
    return found[0].mask if found else None


def propose_each_kind(gray: NDArray[np.uint8]) -> list[Proposal]:
    """The best outlines of a head, an abdomen and a bone in a frame [H, W], without any label.

    The highest score comes first. The result is empty for an empty frame or a strip.
    """
    if _hopeless(gray):
        return []
    maps, kinds = echo_maps(gray), tuple(HYPOTHESES.values())
    found = [_find(maps, kind) for kind in kinds]
    odds = CHOICE @ np.array([*(each.scores[0] for each in found), 1.0])
    share = np.exp(odds - odds.max()) / np.exp(odds - odds.max()).sum()
    proposals = [
        _proposal(maps, gray.shape, kind, shapes) for kind, shapes in zip(kinds, found, strict=True)
    ]
    structures = tuple(HYPOTHESES)
    order = sorted(range(len(kinds)), key=lambda number: -share[number])
    return [
        replace(
            proposals[number],
            structure=structures[number],
            score=proposals[number].score * float(share[number]),
            prompt=json.dumps({"type": HYPOTHESIS, "share": round(float(share[number]), 3)}),
        )
        for number in order
    ]


def _stands(gray: NDArray[np.uint8], guess: Proposal) -> bool:
    return guess.structure != "fetal abdomen" or guesses.is_abdomen(gray, guess.mask)


def _hopeless(gray: NDArray[np.uint8]) -> bool:
    return bool(gray.max(initial=0) == 0 or max(gray.shape) > MAX_ASPECT * min(gray.shape))


def _find(maps: EchoMaps, kind: Kind, around: Around | None = None) -> Found:
    if isinstance(kind.model, BoneModel):
        return find_bones(maps, kind.model, around)
    return find_ellipses(maps, kind.model, around)


def _proposal(maps: EchoMaps, size: tuple[int, ...], kind: Kind, found: Found) -> Proposal:
    """The best shape as a mask without structure.

    Stability is its mean overlap with the runners-up of other starts.
    """
    draw = bone_mask if isinstance(kind.model, BoneModel) else ellipse_mask
    small = [draw(shape, 1.0, maps.shape) for shape in found.shapes]
    stability = float(np.mean([_overlap(small[0], other) for other in small[1:]]))
    score = float(1 / (1 + np.exp((kind.even - found.scores[0]) / kind.spread)))
    return Proposal(None, draw(found.shapes[0], maps.scale, (size[0], size[1])), score, stability)


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))
