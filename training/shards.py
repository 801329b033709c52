"""Shards for data that no disk or memory at hand holds at once: tar files of pictures and JSON, read as a stream.

A shard holds `NUMBER.png` (a letterboxed gray frame) and `NUMBER.json` (captions, regions, attributes) of each pair, as
webdataset lays them out; nothing in it is ever executed. `index.json` names the shards and tells what all captions say.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

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

    @classmethod
    def open(cls, folder: Path) -> "Shards":
        """SonoError where `folder` holds no shards."""
        try:
            index = json.loads((folder / INDEX).read_text())
            said = tuple(_attributes(one) for one in index["attributes"])
            return cls(folder, tuple(index["shards"]), tuple(index["shards"].values()), said)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SonoError(f"{folder}: no shards here ({INDEX} is missing or damaged); write them again") from error

    def __len__(self) -> int:
        return sum(self.sizes)

    @cached_property
    def table(self) -> AttributeTable:
        """The attributes of all captions, equal in every process."""
        return AttributeTable(self.said)

    def share(self, reader: Reader, seed: int, epoch: int) -> list[int]:
        """The shards that `reader` reads in an epoch, in order; together the readers have each shard once."""
        order = torch.randperm(len(self.names), generator=seeded(seed, epoch)).tolist()
        return order[reader.number :: reader.of]

    def even_steps(self, of: int, batch_size: int, seed: int, epoch: int) -> int:
        """How many full batches each of `of` readers has, so that all may stop at the same step."""
        shares = (self.share(Reader(number, of), seed, epoch) for number in range(of))
        return min(sum(self.sizes[shard] for shard in share) for share in shares) // batch_size


def write_shards(pairs: PairSet, folder: Path, pairs_per_shard: int = 1024, seed: int = 0) -> Shards:
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
                        _add(shard, f"{row:08d}.png", encode_png(pairs.frames[row]))
                        _add(shard, f"{row:08d}.json", json.dumps(_record(pairs.examples[row])).encode())
                        advance()
                sizes[name] = len(rows)
        said = [_told(one) for one in pairs.table.known]
        write_text(folder / INDEX, json.dumps({"shards": sizes, "attributes": said}) + "\n")
    except OSError as error:
        raise SonoError(f"{folder}: cannot write the shards ({error.strerror}); free some disk, remove it") from error
    return Shards.open(folder)


def stream_pairs(shards: Shards, reader: Reader, seed: int, epoch: int, buffer: int = 4096) -> Iterator[Pair]:
    """The pairs of the reader's shards, each once, in an order that `seed` and `epoch` decide.

    `buffer` pairs are held, from which the next is drawn; SonoError where a shard is damaged.
    """
    rng = np.random.default_rng((seed, epoch, reader.number))
    stream = (pair for shard in shards.share(reader, seed, epoch) for pair in read_shard(shards, shard))
    held = list(islice(stream, buffer))
    for pair in stream:
        place = int(rng.integers(len(held)))
        yield held[place]
        held[place] = pair
    for place in rng.permutation(len(held)):
        yield held[place]


def stream_batches(shards: Shards, pairs: Iterable[Pair], batch_size: int) -> Iterator[PairSet]:
    """Sets of `batch_size` pairs (the last may be smaller), ready for `draw_batch`."""
    stream = iter(pairs)
    while some := list(islice(stream, batch_size)):
        yield PairSet(np.stack([frame for frame, _ in some]), tuple(example for _, example in some), shards.table)


def read_shard(shards: Shards, number: int) -> Iterator[Pair]:
    """The pairs of one shard in the order of the file; SonoError where it is missing, damaged or cut short."""
    path, count = shards.folder / shards.names[number], 0
    try:
        with tarfile.open(path, "r|") as shard:
            while (picture := shard.next()) is not None:
                frame = cv2.imdecode(np.frombuffer(_content(shard, picture), np.uint8), cv2.IMREAD_GRAYSCALE)
                told = shard.next()
                if frame is None or told is None:
                    raise ValueError("half a pair")
                yield np.asarray(frame, np.uint8), _example(json.loads(_content(shard, told)))
                count += 1
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, cv2.error) as error:
        raise SonoError(f"{path}: damaged after {count} pairs; copy or write it again") from error
    if count != shards.sizes[number]:
        raise SonoError(f"{path}: holds {count} pairs, the index says {shards.sizes[number]}; copy it again")


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = shard.extractfile(member)
    if stream is None:
        raise ValueError("not a file")
    return stream.read()


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _told(said: Attributes) -> dict[str, Any]:
    return {"path": said.path, "values": sorted(said.values), "ga_days": said.ga_days}


def _attributes(told: dict[str, Any]) -> Attributes:
    return Attributes(tuple(told["path"]), frozenset((name, value) for name, value in told["values"]), told["ga_days"])


def _record(example: Example) -> dict[str, Any]:
    """An example as JSON holds it."""
    regions = [
        {"runs": one.runs.tolist(), "caption": one.caption, "attributes": _told(one.attributes), "grade": one.grade}
        for one in example.regions
    ]
    return vars(example) | {"attributes": _told(example.attributes), "regions": regions}


def _example(record: dict[str, Any]) -> Example:
    regions = tuple(
        Region(np.array(one["runs"], np.uint32), one["caption"], _attributes(one["attributes"]), one["grade"])
        for one in record["regions"]
    )
    changes = {"prompts": tuple(record["prompts"]), "path": tuple(record["path"]), "regions": regions}
    return Example(**record | changes | {"attributes": _attributes(record["attributes"])})
