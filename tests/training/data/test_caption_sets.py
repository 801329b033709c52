"""Training with several captions of a frame: one is drawn at each step."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sono.annotation.captions import build_captions
from sono.curation.core.workspace import Workspace
from sono.templates.loader import load_templates
from sono.training.data.pairs import Batch, PairMixture, PairSet, draw_batch
from sono.training.data.read_pairs import load_pairs
from sono.training.data.shard_records import ShardOrigin
from sono.training.data.shards import read_shard, write_shards
from sono.training.inputs import template_set
from sono.training.objectives.losses import Targets

SETS = ("standard", "short", "sonoclip")


@pytest.fixture(scope="module")
def workspace(study: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The study with captions of three sets."""
    root = tmp_path_factory.mktemp("sets") / "study"
    shutil.copytree(study.root, root)
    own = Workspace(root)
    build_captions(own, SETS)
    return own


@pytest.fixture(scope="module")
def pairs(workspace: Workspace) -> PairSet:
    templates = load_templates("standard")
    return load_pairs(workspace, workspace.accepted_images(), ("accepted",), templates, 32)


def _draw(pairs: PairSet, seed: int, mixture: PairMixture, rows: list[int]) -> Batch:
    return draw_batch(pairs, rows, mixture, torch.Generator().manual_seed(seed))


def _set_of(text: str, workspace: Workspace) -> str:
    table = workspace.captions()
    (found,) = set(table[table["text"] == text]["template"].str.rpartition("-")[0])
    return str(found)


def test_the_captions_of_the_main_set_come_first(workspace: Workspace, pairs: PairSet) -> None:
    assert template_set(workspace) == "standard"
    for example in pairs.examples:
        for one in (example, *example.regions):
            sets = [_set_of(text, workspace) for text in (one.caption, *(o[0] for o in one.more))]
            assert sets == ["standard", "short", "sonoclip"]


@pytest.mark.parametrize("regional", [False, True])
def test_training_draws_the_captions_of_each_set_equally_often(
    workspace: Workspace, pairs: PairSet, regional: bool
) -> None:
    mixture = PairMixture(0.0 if regional else 1.0, 0.0, None)
    texts = [_draw(pairs, seed, mixture, [0]).captions[0] for seed in range(300)]
    counts = Counter(_set_of(text, workspace) for text in texts)
    assert sorted(counts) == sorted(SETS) and min(counts.values()) > 75
    assert texts == [_draw(pairs, seed, mixture, [0]).captions[0] for seed in range(300)]


def test_without_further_sets_the_same_numbers_are_drawn_as_before(pairs: PairSet) -> None:
    """The control: a set more changes the draws, none leaves them as they were."""
    alone = replace(
        pairs,
        examples=tuple(
            replace(e, more=(), regions=tuple(replace(r, more=()) for r in e.regions))
            for e in pairs.examples
        ),
    )
    rows = list(range(len(pairs)))
    mixture = PairMixture(0.5, 0.0, None)
    generator = torch.Generator().manual_seed(3)
    texts = draw_batch(alone, rows, mixture, generator).captions
    expected = torch.Generator().manual_seed(3)
    for _ in rows:
        torch.rand(3, generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())
    assert set(texts) <= {one.caption for e in alone.examples for one in (e, *e.regions)}
    assert texts != _draw(pairs, 3, mixture, rows).captions


def test_a_caption_of_any_set_is_true_of_every_frame_that_has_it(pairs: PairSet) -> None:
    rows = [row for row, one in enumerate(pairs.examples) if one.plane == "femur"][:6]
    seeds = range(40)
    mixture = PairMixture(1.0, 0.0, None)
    mixed = [_draw(pairs, seed, mixture, rows) for seed in seeds]
    for batch in mixed:
        found = Targets(batch.facts.stated, batch.facts.true).positives()
        assert bool(found.diagonal().all())
        for place, text in enumerate(batch.captions):
            has = [
                text in (pairs.examples[row].caption, *(o[0] for o in pairs.examples[row].more))
                for row in batch.rows
            ]
            assert found[place].tolist() == has
    assert {batch.facts.true.shape[1] for batch in mixed} == {5}


def test_attributes_are_those_of_the_drawn_caption(pairs: PairSet) -> None:
    mixture = PairMixture(1.0, 0.0, None)
    aged = {
        text: bool(_draw(pairs, seed, mixture, [0]).attributes.ga_days.isfinite().all())
        for seed in range(20)
        for text in _draw(pairs, seed, mixture, [0]).captions
    }
    assert len(aged) == 3
    assert {"week" in text for text in aged if aged[text]} <= {True}
    assert all(not aged[text] for text in aged if "week" not in text)


def test_the_captions_of_all_sets_pass_through_shards(pairs: PairSet, tmp_path: Path) -> None:
    shards = write_shards(pairs, tmp_path / "shards", ShardOrigin(template="standard"))
    read = {example.image_id: example for _, example in read_shard(shards, 0)}
    assert set(shards.table.known) == set(pairs.table.known)
    for example in pairs.examples:
        again = read[example.image_id]
        assert (again.caption, again.more) == (example.caption, example.more)
        assert [one.more for one in again.regions] == [one.more for one in example.regions]
        assert len(again.more) == 2
