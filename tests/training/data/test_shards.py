import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, IterableDataset

from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.text_extraction import extract_texts
from sono.templates.loader import load_templates
from sono.training.data import shards as module
from sono.training.data.pairs import PairMixture, PairSet, draw_batch
from sono.training.data.read_pairs import load_pairs
from sono.training.data.shard_records import ShardOrigin
from sono.training.data.shards import (
    Reader,
    Shards,
    read_shard,
    stream_batches,
    stream_pairs,
    write_shards,
)

SOURCE = ShardOrigin(template="standard")


@pytest.fixture(scope="module")
def pairs(study: Workspace) -> PairSet:
    return load_pairs(study, study.accepted_images(), ("accepted",), load_templates("standard"), 32)


@pytest.fixture(scope="module")
def shards(pairs: PairSet, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return write_shards(
        pairs, tmp_path_factory.mktemp("stream") / "shards", SOURCE, pairs_per_shard=6
    )


class Stream(IterableDataset[str]):
    """The image ids that a worker of this process reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self):  # type: ignore[no-untyped-def]  # torch's own is not typed either
        for _, example in stream_pairs(Shards.open(self.folder), Reader.here(), 0, 0, buffer=4):
            yield example.image_id


def read_as_rank(rank: int, folder: Path, out: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{out / 'meet'}", rank=rank, world_size=2)
    loader = DataLoader(
        Stream(folder), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    (out / f"{rank}.json").write_text(json.dumps(list(loader)))
    dist.destroy_process_group()


def test_two_ranks_of_two_workers_see_every_pair_once(
    pairs: PairSet, shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    mp.start_processes(read_as_rank, (shards.folder, tmp_path), nprocs=2, start_method="fork")
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert min(map(len, seen)) > 0
    assert sorted(seen[0] + seen[1]) == sorted(example.image_id for example in pairs.examples)


def test_a_pair_comes_back_as_it_was(pairs: PairSet, shards: Shards) -> None:
    assert len(shards) == len(pairs) == 40
    assert [*shards.sizes] == [6] * 6 + [4]
    row_of = {example.image_id: row for row, example in enumerate(pairs.examples)}
    for number in range(len(shards.names)):
        for frame, example in read_shard(shards, number):
            row = row_of[example.image_id]
            expected = pairs.examples[row]
            assert np.array_equal(frame, pairs.frames[row])
            assert vars(example) | {"regions": 0} == vars(expected) | {"regions": 0}
            assert [vars(one) | {"runs": one.runs.tolist()} for one in example.regions] == [
                vars(one) | {"runs": one.runs.tolist()} for one in expected.regions
            ]


def test_batches_out_of_shards_are_those_of_the_pairs_themselves(
    pairs: PairSet, shards: Shards
) -> None:
    row_of = {example.image_id: row for row, example in enumerate(pairs.examples)}
    mixture = PairMixture(0.5, 0.5, None)
    sizes = []
    for some in stream_batches(shards, stream_pairs(shards, Reader(0, 1), 3, 0), 16):
        rows = [row_of[example.image_id] for example in some.examples]
        streamed = draw_batch(some, range(len(some)), mixture, torch.Generator().manual_seed(1))
        held = draw_batch(pairs, rows, mixture, torch.Generator().manual_seed(1))
        assert torch.equal(streamed.image, held.image)
        assert torch.equal(streamed.mask, held.mask)
        assert streamed.captions == held.captions
        assert torch.equal(streamed.attributes.values, held.attributes.values)
        sizes.append(len(some))
    assert sizes == [16, 16, 8]


def order(shards: Shards, seed: int, epoch: int, buffer: int = 8) -> list[str]:
    return [
        example.image_id
        for _, example in stream_pairs(shards, Reader(0, 1), seed, epoch, buffer=buffer)
    ]


def test_seed_and_epoch_decide_the_order(shards: Shards) -> None:
    first = order(shards, 0, 0)
    assert first == order(shards, 0, 0)
    others = [order(shards, 0, 1), order(shards, 1, 0), order(shards, 0, 0, buffer=1)]
    assert all(sorted(other) == sorted(first) and other != first for other in others)


@pytest.mark.parametrize("readers", [1, 2, 3, 5, 9])
def test_readers_share_the_shards_and_may_stop_together(shards: Shards, readers: int) -> None:
    shares = [shards.share(Reader(number, readers), 0, 2) for number in range(readers)]
    assert sorted(shard for share in shares for shard in share) == list(range(7))
    counts = [sum(shards.sizes[shard] for shard in share) for share in shares]
    assert shards.even_steps(readers, 4, 0, 2) == min(counts) // 4


def test_the_same_pairs_give_the_same_bytes(pairs: PairSet, shards: Shards, tmp_path: Path) -> None:
    again = write_shards(pairs, tmp_path / "again", SOURCE, pairs_per_shard=6)
    for name in (*shards.names, "index.json"):
        assert (again.folder / name).read_bytes() == (shards.folder / name).read_bytes()
    with tarfile.open(shards.folder / "000000.tar") as shard:
        assert {Path(name).suffix for name in shard.getnames()} == {".png", ".json", ".npy"}


@pytest.mark.parametrize("size", [0, 700, 5000])
def test_a_shard_that_was_cut_short_says_so(pairs: PairSet, tmp_path: Path, size: int) -> None:
    shards = write_shards(pairs, tmp_path / "cut", SOURCE, pairs_per_shard=20)
    whole = (shards.folder / "000001.tar").read_bytes()
    (shards.folder / "000001.tar").write_bytes(whole[:size])
    with pytest.raises(SonoError, match=r"000001\.tar: .*copy"):
        list(read_shard(shards, 1))


@pytest.mark.parametrize("old", [b'"regions"', b'"runs": ', b"IHDR", b"NUMPY"])
def test_a_pair_with_a_wrong_byte_says_which(pairs: PairSet, tmp_path: Path, old: bytes) -> None:
    shards = write_shards(pairs, tmp_path / "odd", SOURCE, pairs_per_shard=40)
    path = shards.folder / "000000.tar"
    path.write_bytes(path.read_bytes().replace(old, old[:-1] + b"1", 1))
    with tarfile.open(path) as shard:
        first = Path(shard.getnames()[0]).stem
    with pytest.raises(SonoError, match=rf"000000\.tar, {first}: damaged; copy"):
        list(read_shard(shards, 0))


def test_a_folder_without_an_index_or_in_use_is_refused(
    pairs: PairSet, shards: Shards, tmp_path: Path
) -> None:
    with pytest.raises(SonoError, match=r"index\.json is missing or damaged"):
        Shards.open(tmp_path)
    with pytest.raises(SonoError, match="not an empty folder"):
        write_shards(pairs, shards.folder, SOURCE)


def test_a_full_disk_is_one_line_and_leaves_no_index(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_add", full)
    with pytest.raises(SonoError, match="No space left on device"):
        write_shards(pairs, tmp_path / "full", SOURCE)
    assert list((tmp_path / "full").iterdir()) == []


def test_the_privacy_gate_reads_the_texts_of_a_shard_and_no_pixels_or_run_lengths(
    shards: Shards,
) -> None:
    told = "\n".join(text for _, text in extract_texts(shards.folder / "000000.tar"))
    examples = [example for _, example in read_shard(shards, 0)]
    assert all(example.image_id in told and example.caption in told for example in examples)
    assert set(told) - set(map(chr, range(128))) <= set("\ufffd\x93")  # the first byte of an array
    longest = max(int(region.runs.max()) for example in examples for region in example.regions)
    assert longest > 99
    assert not re.search(rf"\b{longest}\b", told)
