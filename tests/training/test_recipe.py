from pathlib import Path

import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.training.config import TrainingConfig, recipe_names, training_config
from sono.training.runs.run_info import settings_of_run


@pytest.fixture
def bare(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "study")


def add(workspace: Workspace, text: str) -> None:
    workspace.config_path.write_text(workspace.config_path.read_text() + text)


def test_the_recipes_that_come_with_sono_are_whole(bare: Workspace) -> None:
    assert recipe_names() == ["echocare", "sono", "sonoclip", "ultrasound-clip"]
    for name in recipe_names():
        for init in (None, "run-001"):
            assert training_config(bare, name, {"init": init}).init == init


def test_the_recipe_sono_is_the_default(bare: Workspace) -> None:
    assert training_config(bare, "sono", {}) == training_config(bare, None, {}) == TrainingConfig()


def test_what_begins_with_another_run_learns_gently_by_default(bare: Workspace) -> None:
    tuned = training_config(bare, None, {"init": "run-001"})
    assert tuned == training_config(bare, "sono", {"init": "run-001"})
    assert tuned.learning_rate == 1e-5
    assert training_config(bare, None, {"init": "run-001", "epochs": 3}).epochs == 3


def test_sonoclip_learns_at_the_published_rates_where_it_begins_with_a_published_model(
    bare: Workspace,
) -> None:
    scratch, tuned = (
        training_config(bare, "sonoclip", {"init": init}) for init in (None, "published")
    )
    assert (scratch.learning_rate, scratch.mask_rate, scratch.trainable) == (1e-3, 1.0, "all")
    assert tuned.learning_rate == 1e-6
    assert tuned.learning_rate * tuned.mask_rate == pytest.approx(1e-4)
    assert tuned.learning_rate * tuned.scale_rate == 1e-6
    assert (tuned.trainable, tuned.weight_decay, tuned.warmup_steps) == ("vision", 0.02, 800)
    assert (tuned.targets, tuned.bias, tuned.global_fraction) == ("identity", "published", 0.1)


def test_a_recipe_gives_way_to_the_study_and_that_to_options(bare: Workspace) -> None:
    add(bare, "\n[training]\nepochs = 7\nbatch_size = 8\n[training.augment]\ngain = 0.1\n")
    config = training_config(bare, "sonoclip", {"batch_size": 4, "seed": None})
    assert (config.epochs, config.batch_size, config.global_fraction) == (7, 4, 0.1)
    assert (config.augment.gain, config.augment.speckle) == (0.1, 0.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[training]\nepocs = 3\n",
            r"mine.toml: unknown key 'training.epocs'; did you mean 'epochs'",
        ),
        ("[tuning]\nmask_rate = -1\n", r"mine.toml: 'tuning.mask_rate' is -1"),
        ("[trainin]\n", r"mine.toml: unknown section \[trainin\]; did you mean 'training'"),
        ("epochs = 3\n", r"mine.toml: unknown section \[epochs\]"),
        ('[training]\nstrategy = "fsdp"\n', "sono.toml: .*cannot be combined with lora_rank"),
    ],
)
def test_a_mistake_in_a_recipe_is_told_with_its_place(
    text: str, told: str, bare: Workspace, tmp_path: Path
) -> None:
    add(bare, "\n[training]\nlora_rank = 4\n")
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(SonoError, match=told):
        training_config(bare, str(file), {"init": "run-001"})


def test_a_recipe_leaves_the_towers_to_what_the_run_begins_with(bare: Workspace) -> None:
    assert training_config(bare, "sonoclip", {}).model == "nano"
    # the default, which says nothing
    assert training_config(bare, "sonoclip", {"init": "run-001"}).model == "lite0"
    add(bare, '\n[training]\nstart = "encoders/vit.pth"\n')
    config = training_config(bare, "sonoclip", {})
    assert (config.model, config.start, config.text, config.objective) == (
        "lite0",
        "encoders/vit.pth",
        "clip",
        "sigmoid",
    )


def test_an_unknown_recipe_names_the_known(bare: Workspace) -> None:
    with pytest.raises(SonoError, match="unknown recipe 'sonclip'; did you mean 'sonoclip'"):
        training_config(bare, "sonclip", {})
    with pytest.raises(SonoError, match="no such recipe file"):
        training_config(bare, "nowhere.toml", {})


def test_a_run_and_a_recipe_exclude_each_other(bare: Workspace) -> None:
    with pytest.raises(SonoError, match="has its own settings; leave --recipe out"):
        settings_of_run(bare, "run-001", "sono", {})


def test_settings_that_fit_the_recipe_alone_are_held_against_it(
    bare: Workspace, tmp_path: Path
) -> None:
    add(bare, "\n[training]\nlora_rank = 4\n")
    recipe = tmp_path / "shared.toml"
    recipe.write_text('[training]\nstrategy = "fsdp"\n')
    assert training_config(bare, "sono", {}).lora_rank == 4
    with pytest.raises(
        SonoError, match=r"sono.toml: 'training': strategy 'fsdp' cannot be combined with lora_rank"
    ):
        training_config(bare, str(recipe), {})
