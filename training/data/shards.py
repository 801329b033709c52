"""Shards for data larger than disk or memory: tar files of PNG and JSON, read as a stream.

A shard contains, for each pair, `IMAGE_ID.png` (a letterboxed gray frame), `IMAGE_ID.json`
(captions, regions, attributes) and, if there are masks, `IMAGE_ID.npy` (their run lengths), in the
layout of webdataset; no code in it is ever run. `index.json` lists the shards, the attributes of
all captions, the origin of the pairs, and the patients and frames.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, pairwise
from pathlib import Path
from tokenize import TokenError  # what numpy raises of a damaged header
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from sono.curation.core.atomic import (
    MAX_JSON_BYTES,
    atomic_path,
    check_inside,
    open_regular,
    read_regular,
    write_text,
)
from sono.curation.core.atomic_folders import refuse_used_folder
from sono.curation.core.console import progress
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png, is_whole_png
from sono.training.data.pairs import Example, MaskedRegion, PairSet
from sono.training.data.sampling import seeded
from sono.training.data.shard_records import (
    Contents,
    Index,
    PairValues,
    ShardOrigin,
    attribute_values,
    pair_values,
)
from sono.training.objectives.attributes import Attributes, AttributeTable
from sono.training.runtime.distributed import get_rank, get_world_size

INDEX = "index.json"
Pair = tuple[NDArray[np.uint8], Example]


class Stored(NamedTuple):
    """A pair as stored in a shard, and its place; many of these fit into memory."""

    place: str
    picture: bytes
    values: bytes  # JSON of PairValues
    runs: bytes


class Reader(NamedTuple):
    """One of the `of` readers of an epoch, each of which gets different shards."""

    number: int
    of: int

    @classmethod
    def here(cls) -> "Reader":
        """The reader of this worker and process: each reads its own shards."""
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        return cls(get_rank() * workers + number, get_world_size() * workers)


@dataclass(frozen=True)
class Shards:
    """A folder of shards: their names and numbers of pairs."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    attributes: tuple[Attributes, ...]  # of all captions and prompts
    source: ShardOrigin
    contents: Contents

    @classmethod
    def open(cls, folder: Path) -> "Shards":
        """The shards of a folder; raises SonoError if it has none."""
        try:
            index = Index.model_validate_json(
                read_regular(own_shard(folder, INDEX), MAX_JSON_BYTES)
            )
        except (OSError, ValidationError) as error:
            raise SonoError(
                f"{folder}: contains no shards ({INDEX} is missing or damaged); write them with "
                "`sono export shards`"
            ) from error
        attributes = tuple(one.attributes() for one in index.attributes)
        return cls(
            folder,
            tuple(index.shards),
            tuple(index.shards.values()),
            attributes,
            index.source,
            index.contents,
        )

    def __len__(self) -> int:
        return sum(self.sizes)

    @cached_property
    def table(self) -> AttributeTable:
        """The attributes of all captions, equal in every process."""
        return AttributeTable(self.attributes)

    @cached_property
    def listed(self) -> tuple[frozenset[Any], ...]:
        """The allowed image ids, planes, centers, patients and attributes of a pair."""
        return (*self.contents.listed, frozenset(self.attributes))

    @property
    def regions(self) -> int:
        """The number of masks."""
        return self.contents.regions

    @property
    def pixels(self) -> tuple[float, float]:
        """Mean and standard deviation of all pixels, in [0, 1]."""
        return self.contents.pixels

    def share(self, reader: Reader, seed: int, epoch: int) -> list[int]:
        """The shards that `reader` reads in an epoch, in order.

        Together the readers have each shard once.
        """
        order = torch.randperm(len(self.names), generator=seeded(seed, epoch)).tolist()
        return order[reader.number :: reader.of]

    def even_steps(self, of: int, batch_size: int, seed: int, epoch: int) -> int:
        """How many full batches each of `of` readers has; the same for all of them."""
        shares = (self.share(Reader(number, of), seed, epoch) for number in range(of))
        return min(sum(self.sizes[shard] for shard in share) for share in shares) // batch_size


def write_shards(
    pairs: PairSet, folder: Path, source: ShardOrigin, pairs_per_shard: int = 1024, seed: int = 0
) -> Shards:
    """Write `pairs`, shuffled, to shards in a new `folder`.

    The index is written last, so an incomplete folder has none. Raises SonoError if the folder is
    in use or the disk is full. The same pairs and seed give the same bytes.
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
        values = [attribute_values(one) for one in pairs.table.known]
        about = {"source": source.model_dump(), "contents": Contents.of(pairs).model_dump()}
        index = {"shards": sizes, "attributes": values} | about
        write_text(folder / INDEX, json.dumps(index) + "\n")
    except OSError as error:
        raise SonoError(
            f"{folder}: cannot write the shards ({error.strerror}); make room and run it again"
        ) from error
    return Shards.open(folder)


def own_shard(folder: Path, name: str) -> Path:
    """The file `name` of a folder of shards; raises SonoError if it leads out of the folder."""
    check_inside(folder / name, folder)
    return folder / name


def stream_pairs(
    shards: Shards, reader: Reader, seed: int, epoch: int, skip: int = 0, buffer: int = 4096
) -> Iterator[Pair]:
    """The pairs of the reader's shards, each once, in an order given by `seed` and `epoch`.

    The first `skip` pairs are left out. A buffer of `buffer` stored pairs is shuffled. Raises
    SonoError if a shard is damaged.
    """
    order = _shuffled(shards, reader, seed, epoch, buffer)
    return (_decoded(shards, one) for one in islice(order, skip, None))


def _shuffled(
    shards: Shards, reader: Reader, seed: int, epoch: int, buffer: int
) -> Iterator[Stored]:
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
        yield PairSet(
            np.stack([frame for frame, _ in some]),
            tuple(example for _, example in some),
            shards.table,
        )


def read_shard(shards: Shards, number: int) -> Iterator[Pair]:
    """The pairs of one shard in the order of the file.

    Raises SonoError if it is missing, damaged or truncated.
    """
    return (_decoded(shards, one) for one in _stored(shards, number))


def _stored(shards: Shards, number: int) -> Iterator[Stored]:
    path, count = shards.folder / shards.names[number], 0
    try:
        with (
            open_regular(own_shard(shards.folder, shards.names[number])) as stream,
            tarfile.open(fileobj=stream, mode="r|") as shard,
        ):
            member = shard.next()
            while member is not None:
                name = Path(member.name).stem
                parts = {".png": b"", ".json": b"", ".npy": b""}
                while (
                    member is not None
                    and Path(member.name).stem == name
                    and not parts[Path(member.name).suffix]
                ):
                    parts[Path(member.name).suffix] = _content(shard, member)
                    member = shard.next()
                yield Stored(f"{path}, {name}", *parts.values())
                count += 1
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise SonoError(f"{path}: damaged after {count} pairs; copy or write it again") from error
    if count != shards.sizes[number]:
        raise SonoError(
            f"{path}: contains {count} pairs, but the index has {shards.sizes[number]}; copy it "
            "again"
        )


def _decoded(shards: Shards, stored: Stored) -> Pair:
    side = shards.contents.side
    try:
        frame, example = _frame(stored.picture, side), _example(stored, side)
    except (OSError, EOFError, ValueError, TokenError, MemoryError, cv2.error) as error:
        raise SonoError(f"{stored.place}: damaged; copy or write the shard again") from error
    images, planes, centers, patients, attributes = shards.listed
    captioned: list[Example | MaskedRegion] = [example, *example.regions]
    own = {Attributes(example.path), *(one.attributes for one in captioned)}
    own |= {other.attributes for one in captioned for other in one.more}
    known = example.image_id in images and example.plane in planes and own <= attributes
    if not known or example.center not in centers or example.patient not in patients:
        raise SonoError(
            f"{stored.place}: does not match {INDEX}; copy or write all of the shards again"
        )
    return frame, example


def _frame(picture: bytes, side: int) -> NDArray[np.uint8]:
    frame = None
    # checked first, since libpng prints messages about what it cannot read
    if is_whole_png(picture, side, side):
        frame = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    if frame is None:
        raise ValueError("no picture of this size")
    return np.asarray(frame, np.uint8)


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = shard.extractfile(member)
    if stream is None:
        raise ValueError("not a file")
    return stream.read()


def _add_pair(shard: tarfile.TarFile, frame: NDArray[np.uint8], example: Example) -> None:
    _add(shard, f"{example.image_id}.png", encode_png(frame))
    _add(shard, f"{example.image_id}.json", json.dumps(pair_values(example)).encode())
    if example.regions:
        # apart from the texts, since the privacy gate may take five digits for somebody's number
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate([region.runs for region in example.regions]))
        _add(shard, f"{example.image_id}.npy", buffer.getvalue())


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _example(stored: Stored, side: int) -> Example:
    values = PairValues.model_validate_json(stored.values)
    runs = np.zeros(0, np.uint32)
    if stored.runs:
        runs = np.lib.format.read_array(io.BytesIO(stored.runs), allow_pickle=False)
    stops = list(accumulate((one.runs for one in values.regions), initial=0))
    if runs.dtype != np.uint32 or runs.shape != (stops[-1],):
        raise ValueError("runs of other masks")
    parts = [runs[start:stop] for start, stop in pairwise(stops)]
    if any(int(part.sum(dtype=np.uint64)) != side**2 for part in parts):
        raise ValueError("masks of another size")
    regions = tuple(
        MaskedRegion(
            part,
            one.caption,
            one.attributes.attributes(),
            one.grade,
            one.structure,
            one.prompts,
            tuple(other.phrased() for other in one.more),
        )
        for one, part in zip(values.regions, parts, strict=True)
    )
    more = tuple(other.phrased() for other in values.more)
    own = {"attributes": values.attributes.attributes(), "regions": regions, "more": more}
    return Example(**dict(values) | own)
