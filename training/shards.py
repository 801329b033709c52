"""Shards for data that no disk or memory at hand holds at once: tar files of pictures and JSON, read as a stream.

A shard holds, of each pair, `IMAGE_ID.png` (a letterboxed gray frame), `IMAGE_ID.json` (captions, regions, attributes)
and, where there are masks, `IMAGE_ID.npy` (their run lengths), as webdataset lays them out; nothing in it is ever
executed. `index.json` names the shards and tells what all captions say, where the pairs are from, and who is in them.
"""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from sono.curation.config import Config
from sono.curation.console import progress
from sono.curation.errors import SonoError
from sono.curation.storage import atomic_path, refuse_used_folder, write_text
from sono.curation.stored import encode_png
from sono.training.attributes import Attributes, AttributeTable
from sono.training.data import Example, PairSet, Region
from sono.training.distributed import process_count, process_rank
from sono.training.sampling import seeded

INDEX = "index.json"
Pair = tuple[NDArray[np.uint8], Example]


class Source(Config):
    """Where pairs are from: a split of the study whose key has this check, by these settings of `[training]`."""

    template: str  # set that wrote the captions
    split: str = "train"
    key_check: str = ""
    hold_out: tuple[str, ...] = ()
    mask_states: tuple[str, ...] = ()


class Contents(Config):
    """What a run must know of all pairs before it reads the first: sizes, pixels, and whom it will have seen."""

    side: int
    pixels: tuple[float, float]  # mean and standard deviation, of 1
    regions: int
    planes: dict[str, int]
    centers: tuple[str, ...]
    patients: tuple[str, ...]
    image_ids: tuple[str, ...]

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
            patients=tuple(sorted({one.patient for one in pairs.examples if one.patient is not None})),
            image_ids=tuple(sorted({one.image_id for one in pairs.examples})),
        )


class Stored(NamedTuple):
    """A pair as it lies in a shard, and where; many of these can be held."""

    place: str
    picture: bytes
    told: bytes
    runs: bytes


class Reader(NamedTuple):
    """One of the `of` readers of an epoch, each of which gets other shards."""

    number: int
    of: int

    @classmethod
    def here(cls) -> "Reader":
        """This worker of this process: every worker of every rank reads its own shards."""
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        return cls(process_rank() * workers + number, process_count() * workers)


@dataclass(frozen=True)
class Shards:
    """A folder of shards: their names and how many pairs each holds."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    said: tuple[Attributes, ...]  # what all captions and prompts say
    source: Source
    contents: Contents

    @classmethod
    def open(cls, folder: Path) -> "Shards":
        """SonoError where `folder` holds no shards."""
        try:
            index = json.loads((folder / INDEX).read_text())
            said = tuple(_attributes(one) for one in index["attributes"])
            source, contents = Source.model_validate(index["source"]), Contents.model_validate(index["contents"])
            return cls(folder, tuple(index["shards"]), tuple(index["shards"].values()), said, source, contents)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            raise SonoError(
                f"{folder}: no shards here ({INDEX} is missing or damaged); write them with `sono export shards`"
            ) from error

    def __len__(self) -> int:
        return sum(self.sizes)

    @cached_property
    def table(self) -> AttributeTable:
        """The attributes of all captions, equal in every process."""
        return AttributeTable(self.said)

    @property
    def regions(self) -> int:
        """Masks that can be drawn."""
        return self.contents.regions

    @property
    def pixels(self) -> tuple[float, float]:
        """Mean and standard deviation of all pixels, of 1."""
        return self.contents.pixels

    def share(self, reader: Reader, seed: int, epoch: int) -> list[int]:
        """The shards that `reader` reads in an epoch, in order; together the readers have each shard once."""
        order = torch.randperm(len(self.names), generator=seeded(seed, epoch)).tolist()
        return order[reader.number :: reader.of]

    def even_steps(self, of: int, batch_size: int, seed: int, epoch: int) -> int:
        """How many full batches each of `of` readers has, so that all may stop at the same step."""
        shares = (self.share(Reader(number, of), seed, epoch) for number in range(of))
        return min(sum(self.sizes[shard] for shard in share) for share in shares) // batch_size


def write_shards(pairs: PairSet, folder: Path, source: Source, pairs_per_shard: int = 1024, seed: int = 0) -> Shards:
    """Write `pairs`, shuffled, to shards in a new `folder`; the index comes last, so that a half is no whole.

    SonoError where the folder is in use or the disk is full. The same pairs and seed give the same bytes.
    """
    refuse_used_folder(folder)
    order = torch.randperm(len(pairs), generator=seeded(seed, 0)).tolist()
    sizes: dict[str, int] = {}
    try:
        with progress("shards", len(pairs)) as advance:
            for start in range(0, len(order), pairs_per_shard):
                rows = order[start : start + pairs_per_shard]
                name = f"{len(sizes):06d}.tar"
                with atomic_path(folder / name) as temporary, tarfile.open(temporary, "w") as shard:
                    for row in rows:
                        _add_pair(shard, pairs.frames[row], pairs.examples[row])
                        advance()
                sizes[name] = len(rows)
        said = [_told(one) for one in pairs.table.known]
        about = {"source": source.model_dump(), "contents": Contents.of(pairs).model_dump()}
        write_text(folder / INDEX, json.dumps({"shards": sizes, "attributes": said} | about) + "\n")
    except OSError as error:
        raise SonoError(f"{folder}: cannot write the shards ({error.strerror}); free some disk, remove it") from error
    return Shards.open(folder)


def stream_pairs(
    shards: Shards, reader: Reader, seed: int, epoch: int, skip: int = 0, buffer: int = 4096
) -> Iterator[Pair]:
    """The pairs of the reader's shards, each once but for the first `skip`, in an order that `seed` and `epoch` decide.

    `buffer` pairs are held as they are stored, from which the next is drawn; SonoError where a shard is damaged.
    """
    order = _shuffled(shards, reader, seed, epoch, buffer)
    return (_decoded(one) for one in islice(order, skip, None))


def _shuffled(shards: Shards, reader: Reader, seed: int, epoch: int, buffer: int) -> Iterator[Stored]:
    rng = np.random.default_rng((seed, epoch, reader.number))
    stream = (one for shard in shards.share(reader, seed, epoch) for one in _stored(shards, shard))
    held = list(islice(stream, buffer))
    for one in stream:
        place = int(rng.integers(len(held)))
        yield held[place]
        held[place] = one
    for place in rng.permutation(len(held)):
        yield held[place]


def stream_batches(shards: Shards, pairs: Iterable[Pair], batch_size: int) -> Iterator[PairSet]:
    """Sets of `batch_size` pairs (the last may be smaller), ready for `draw_batch`."""
    stream = iter(pairs)
    while some := list(islice(stream, batch_size)):
        yield PairSet(np.stack([frame for frame, _ in some]), tuple(example for _, example in some), shards.table)


def read_shard(shards: Shards, number: int) -> Iterator[Pair]:
    """The pairs of one shard in the order of the file; SonoError where it is missing, damaged or cut short."""
    return map(_decoded, _stored(shards, number))


def _stored(shards: Shards, number: int) -> Iterator[Stored]:
    path, count = shards.folder / shards.names[number], 0
    try:
        with tarfile.open(path, "r|") as shard:
            member = shard.next()
            while member is not None:
                name = Path(member.name).stem
                parts = {".png": b"", ".json": b"", ".npy": b""}
                while member is not None and Path(member.name).stem == name and not parts[Path(member.name).suffix]:
                    parts[Path(member.name).suffix] = _content(shard, member)
                    member = shard.next()
                yield Stored(f"{path}, {name}", *parts.values())
                count += 1
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise SonoError(f"{path}: damaged after {count} pairs; copy or write it again") from error
    if count != shards.sizes[number]:
        raise SonoError(f"{path}: holds {count} pairs, the index says {shards.sizes[number]}; copy it again")


def _decoded(stored: Stored) -> Pair:
    try:
        frame = cv2.imdecode(np.frombuffer(stored.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
        runs = np.load(io.BytesIO(stored.runs), allow_pickle=False) if stored.runs else np.zeros(0, np.uint32)
        if frame is None:
            raise ValueError("no picture")
        return np.asarray(frame, np.uint8), _example(json.loads(stored.told), runs)
    except (OSError, EOFError, ValueError, KeyError, TypeError, cv2.error) as error:
        raise SonoError(f"{stored.place}: damaged; copy or write the shard again") from error


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = shard.extractfile(member)
    if stream is None:
        raise ValueError("not a file")
    return stream.read()


def _add_pair(shard: tarfile.TarFile, frame: NDArray[np.uint8], example: Example) -> None:
    _add(shard, f"{example.image_id}.png", encode_png(frame))
    _add(shard, f"{example.image_id}.json", json.dumps(_record(example)).encode())
    if example.regions:
        # apart from the texts: for the privacy gate a number of five digits may be somebody's
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate([region.runs for region in example.regions]))
        _add(shard, f"{example.image_id}.npy", buffer.getvalue())


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _told(said: Attributes) -> dict[str, Any]:
    return {"path": said.path, "values": sorted(said.values), "ga_days": said.ga_days}


def _attributes(told: dict[str, Any]) -> Attributes:
    return Attributes(tuple(told["path"]), frozenset((name, value) for name, value in told["values"]), told["ga_days"])


def _record(example: Example) -> dict[str, Any]:
    """An example as JSON holds it: of each region how many runs it has."""
    regions = [
        {"runs": len(one.runs), "caption": one.caption, "attributes": _told(one.attributes), "grade": one.grade}
        for one in example.regions
    ]
    return vars(example) | {"attributes": _told(example.attributes), "regions": regions}


def _example(record: dict[str, Any], runs: NDArray[np.uint32]) -> Example:
    stops = list(accumulate(one["runs"] for one in record["regions"]))
    if len(runs) != (stops[-1] if stops else 0):
        raise ValueError("runs of other masks")
    regions = tuple(
        Region(runs[stop - one["runs"] : stop], one["caption"], _attributes(one["attributes"]), one["grade"])
        for one, stop in zip(record["regions"], stops, strict=True)
    )
    changes = {"prompts": tuple(record["prompts"]), "path": tuple(record["path"]), "regions": regions}
    return Example(**record | changes | {"attributes": _attributes(record["attributes"])})
