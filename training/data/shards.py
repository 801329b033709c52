"""Shards for data that no disk or memory at hand holds at once: tar files of pictures and JSON,
read as a stream.

A shard holds, of each pair, `IMAGE_ID.png` (a letterboxed gray frame), `IMAGE_ID.json` (captions,
regions, attributes) and, where there are masks, `IMAGE_ID.npy` (their run lengths), as webdataset
lays them out; nothing in it is ever executed. `index.json` names the shards and tells what all
captions say, where the pairs are from, and who is in them.
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
        return cls(get_rank() * workers + number, get_world_size() * workers)


@dataclass(frozen=True)
class Shards:
    """A folder of shards: their names and how many pairs each holds."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    said: tuple[Attributes, ...]  # what all captions and prompts say
    source: ShardOrigin
    contents: Contents

    @classmethod
    def open(cls, folder: Path) -> "Shards":
        """SonoError where `folder` holds no shards."""
        try:
            index = Index.model_validate_json(
                read_regular(own_shard(folder, INDEX), MAX_JSON_BYTES)
            )
        except (OSError, ValidationError) as error:
            raise SonoError(
                f"{folder}: no shards here ({INDEX} is missing or damaged); write them with `sono "
                f"export shards`"
            ) from error
        said = tuple(one.attributes() for one in index.attributes)
        return cls(
            folder,
            tuple(index.shards),
            tuple(index.shards.values()),
            said,
            index.source,
            index.contents,
        )

    def __len__(self) -> int:
        return sum(self.sizes)

    @cached_property
    def table(self) -> AttributeTable:
        """The attributes of all captions, equal in every process."""
        return AttributeTable(self.said)

    @cached_property
    def listed(self) -> tuple[frozenset[Any], ...]:
        """What a pair may be and say.

        Its image id, plane, center and patient, and all attributes.
        """
        return (*self.contents.listed, frozenset(self.said))

    @property
    def regions(self) -> int:
        """Masks that can be drawn."""
        return self.contents.regions

    @property
    def pixels(self) -> tuple[float, float]:
        """Mean and standard deviation of all pixels, of 1."""
        return self.contents.pixels

    def share(self, reader: Reader, seed: int, epoch: int) -> list[int]:
        """The shards that `reader` reads in an epoch, in order.

        Together the readers have each shard once.
        """
        order = torch.randperm(len(self.names), generator=seeded(seed, epoch)).tolist()
        return order[reader.number :: reader.of]

    def even_steps(self, of: int, batch_size: int, seed: int, epoch: int) -> int:
        """How many full batches each of `of` readers has, so that all may stop at the same step."""
        shares = (self.share(Reader(number, of), seed, epoch) for number in range(of))
        return min(sum(self.sizes[shard] for shard in share) for share in shares) // batch_size


def write_shards(
    pairs: PairSet, folder: Path, source: ShardOrigin, pairs_per_shard: int = 1024, seed: int = 0
) -> Shards:
    """Write `pairs`, shuffled, to shards in a new `folder`; the index comes last, so that a half is
    no whole.

    SonoError where the folder is in use or the disk is full. The same pairs and seed give the same
    bytes.
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
        said = [attribute_values(one) for one in pairs.table.known]
        about = {"source": source.model_dump(), "contents": Contents.of(pairs).model_dump()}
        write_text(folder / INDEX, json.dumps({"shards": sizes, "attributes": said} | about) + "\n")
    except OSError as error:
        raise SonoError(
            f"{folder}: cannot write the shards ({error.strerror}); make room and run it again"
        ) from error
    return Shards.open(folder)


def own_shard(folder: Path, name: str) -> Path:
    """The file `name` of a folder of shards; SonoError where it leads out of the folder."""
    check_inside(folder / name, folder)
    return folder / name


def stream_pairs(
    shards: Shards, reader: Reader, seed: int, epoch: int, skip: int = 0, buffer: int = 4096
) -> Iterator[Pair]:
    """The pairs of the reader's shards, each once but for the first `skip`, in an order that `seed`
    and `epoch` decide.

    `buffer` pairs are held as they are stored, from which the next is drawn; SonoError where a
    shard is damaged.
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

    SonoError where it is missing, damaged or cut short.
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
            f"{path}: holds {count} pairs, the index says {shards.sizes[number]}; copy it again"
        )


def _decoded(shards: Shards, stored: Stored) -> Pair:
    side = shards.contents.side
    try:
        frame, example = _frame(stored.picture, side), _example(stored, side)
    except (OSError, EOFError, ValueError, TokenError, MemoryError, cv2.error) as error:
        raise SonoError(f"{stored.place}: damaged; copy or write the shard again") from error
    images, planes, centers, patients, said = shards.listed
    told = {
        example.attributes,
        Attributes(example.path),
        *(region.attributes for region in example.regions),
    }
    known = example.image_id in images and example.plane in planes and told <= said
    if not known or example.center not in centers or example.patient not in patients:
        raise SonoError(
            f"{stored.place}: not what {INDEX} says is in the shards; copy or write all of them "
            f"again"
        )
    return frame, example


def _frame(picture: bytes, side: int) -> NDArray[np.uint8]:
    frame = None
    # asked first, since libpng talks past us of what it cannot read
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
        # apart from the texts: for the privacy gate a number of five digits may be somebody's
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate([region.runs for region in example.regions]))
        _add(shard, f"{example.image_id}.npy", buffer.getvalue())


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _example(stored: Stored, side: int) -> Example:
    told = PairValues.model_validate_json(stored.told)
    runs = np.zeros(0, np.uint32)
    if stored.runs:
        runs = np.lib.format.read_array(io.BytesIO(stored.runs), allow_pickle=False)
    stops = list(accumulate((one.runs for one in told.regions), initial=0))
    if runs.dtype != np.uint32 or runs.shape != (stops[-1],):
        raise ValueError("runs of other masks")
    parts = [runs[start:stop] for start, stop in pairwise(stops)]
    if any(int(part.sum(dtype=np.uint64)) != side**2 for part in parts):
        raise ValueError("masks of another size")
    regions = tuple(
        MaskedRegion(
            part, one.caption, one.attributes.attributes(), one.grade, one.structure, one.prompts
        )
        for one, part in zip(told.regions, parts, strict=True)
    )
    return Example(**dict(told) | {"attributes": told.attributes.attributes(), "regions": regions})
