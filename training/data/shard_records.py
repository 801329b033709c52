"""The JSON of shards: of one pair, and `index.json` of all pairs."""

from collections import Counter
from typing import Any

from pydantic import Field, PositiveInt, model_validator

from sono.curation.core.config import Config
from sono.training.data.pairs import Example, MaskedRegion, PairSet, Phrased
from sono.training.data.sampling import GRADES
from sono.training.objectives.attributes import Attributes


class ShardOrigin(Config):
    """The origin of the pairs: a split of a study, and the settings of `[training]`.

    `key_check` identifies the key of the study.
    """

    template: str  # set that wrote the captions
    split: str = "train"
    key_check: str = ""
    hold_out: tuple[str, ...] = ()
    mask_states: tuple[str, ...] = ()


class Contents(Config):
    """What a run must know about all pairs before it reads the first one.

    These are sizes, pixel statistics, and the patients and frames.
    """

    side: int = Field(ge=1, le=1 << 14)
    pixels: tuple[float, float]  # mean and standard deviation, of 1
    regions: int
    planes: dict[str, int]
    centers: tuple[str, ...]
    patients: tuple[str, ...]
    image_ids: tuple[str, ...]

    @property
    def listed(self) -> tuple[frozenset[str | None], ...]:
        """The image ids, planes, centers and patients that a pair may have."""
        others = (self.planes, self.centers, self.patients)
        return (frozenset(self.image_ids), *(frozenset({None, *names}) for names in others))

    @classmethod
    def of(cls, pairs: PairSet) -> "Contents":
        """Sorted, so that equal pairs give equal bytes."""
        planes = Counter(one.plane for one in pairs.examples if one.plane is not None)
        return cls(
            side=pairs.size,
            pixels=pairs.pixels,
            regions=pairs.regions,
            planes=dict(sorted(planes.items())),
            centers=tuple(sorted({one.center for one in pairs.examples if one.center is not None})),
            patients=tuple(
                sorted({one.patient for one in pairs.examples if one.patient is not None})
            ),
            image_ids=tuple(sorted({one.image_id for one in pairs.examples})),
        )


class AttributeValues(Config):
    """Attributes as JSON."""

    path: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    ga_days: int | None

    def attributes(self) -> Attributes:
        """The attributes in the form of the attribute table."""
        return Attributes(self.path, frozenset(self.values), self.ga_days)


class PhrasedValues(Config):
    """A caption of a further template set as JSON."""

    caption: str
    attributes: AttributeValues

    def phrased(self) -> Phrased:
        """The caption as a pair has it."""
        return Phrased(self.caption, self.attributes.attributes())


class RegionValues(Config):
    """A region as JSON; `runs` is its number of run lengths among those of the pair."""

    runs: int
    caption: str
    attributes: AttributeValues
    grade: int = Field(ge=0, le=max(GRADES.values()))
    structure: str = ""
    prompts: tuple[str, ...] = ()
    more: tuple[PhrasedValues, ...] = ()


class PairValues(Config):
    """An example as JSON."""

    image_id: str
    plane: str | None
    caption: str
    prompts: tuple[str, ...]
    regions: tuple[RegionValues, ...]
    attributes: AttributeValues
    path: tuple[str, ...]
    center: str | None
    patient: str | None
    more: tuple[PhrasedValues, ...] = ()


class Index(Config):
    """`index.json`: the shards with their numbers of pairs, and the contents of all of them."""

    shards: dict[str, PositiveInt]
    attributes: tuple[AttributeValues, ...]
    source: ShardOrigin
    contents: Contents

    @model_validator(mode="after")
    def _counts(self) -> "Index":
        if len(set(self.contents.image_ids)) != sum(self.shards.values()):
            raise ValueError("a pair is not listed")
        return self


def attribute_values(attributes: Attributes) -> dict[str, Any]:
    """Attributes as JSON, sorted, so that equal ones give equal bytes."""
    values = sorted(attributes.values)
    return {"path": attributes.path, "values": values, "ga_days": attributes.ga_days}


def pair_values(example: Example) -> dict[str, Any]:
    """An example as JSON, with the number of runs of each region."""
    regions = [vars(one) | {"runs": len(one.runs)} | _captions(one) for one in example.regions]
    return vars(example) | {"regions": regions} | _captions(example)


def _captions(one: Example | MaskedRegion) -> dict[str, Any]:
    """The attributes of the caption, and the captions of further template sets."""
    more = [
        {"caption": other.caption, "attributes": attribute_values(other.attributes)}
        for other in one.more
    ]
    return {"attributes": attribute_values(one.attributes)} | ({"more": more} if more else {})
