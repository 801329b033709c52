import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clip_files import write_bert
from safetensors.torch import load_file, save_file

from sono.curation.core.errors import SonoError
from sono.training.model import mask_clip as model_module
from sono.training.model import text_towers
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import load_weights, save_model
from sono.training.model.freeze import set_trainable
from sono.training.model.mask_clip import MaskClip

TEXTS = ["a fetal head", "the femur", "a fetal head"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    return write_bert(tmp_path_factory.mktemp("text") / "tiny-bert")


@pytest.fixture
def model(bert: Path) -> MaskClip:
    torch.manual_seed(0)
    return MaskClip(ModelConfig(name="nano", image_size=32, text_tower=str(bert))).eval()


def test_a_local_bert_gives_its_own_weights_and_tokenizer(model: MaskClip, bert: Path) -> None:
    from transformers import BertModel

    own = BertModel.from_pretrained(bert).state_dict()["embeddings.word_embeddings.weight"]
    assert torch.equal(model.towers.text.transformer.embeddings.word_embeddings.weight, own)
    tokens = model.tokenize(["a fetal head", "unheard"])
    assert tokens.shape == (2, 128)
    assert tokens[:, :5].tolist() == [[2, 5, 6, 7, 3], [2, 1, 3, 0, 0]]
    assert model.encode_text(tokens).shape == (2, 128)


def test_padding_does_not_change_the_features(bert: Path) -> None:
    torch.manual_seed(0)
    long = MaskClip(
        ModelConfig(name="nano", image_size=32, text_tower=str(bert), context_length=117)
    ).eval()
    assert long.tokenize(["a head"]).shape == (1, 117)
    with torch.inference_mode():
        tokens = long.tokenize(["a head"])
        assert torch.allclose(long.encode_text(tokens), long.encode_text(tokens[:, :6]), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "clip"])
def test_padding_is_left_out_and_nothing_changes(
    kind: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = MaskClip(
        ModelConfig(name="nano", image_size=32, text_tower=str(bert) if kind == "bert" else None)
    ).eval()
    texts = [*TEXTS, "a much longer caption of a fetal head!"]
    whole, seen = model.encode_text(model.tokenize(texts)), []
    monkeypatch.setattr(
        model.towers.text,
        "forward",
        lambda tokens, run=model.towers.text.forward: seen.append(tokens) or run(tokens),
    )
    short = model.encode_texts(texts)
    assert seen[0].shape[1] < 16 < model.context_length
    assert torch.allclose(short, whole, atol=1e-5)
    weight = model.towers.text.get_parameter(
        "transformer.embeddings.word_embeddings.weight"
        if kind == "bert"
        else "token_embedding.weight"
    )
    one, other = (
        torch.autograd.grad(features.square().sum(), weight)[0] for features in (short, whole)
    )
    assert one.abs().max() > 1
    assert torch.allclose(one, other, atol=1e-5 * float(other.abs().max()))


def test_a_text_tower_that_looks_at_padding_keeps_it() -> None:
    model = MaskClip(ModelConfig(name="nano", image_size=32))
    model.towers.text.pool_type = "last"
    tokens = model.tokenize(["a head"])
    assert text_towers.without_padding(model.towers.text, tokens).shape == tokens.shape == (1, 77)


def test_a_checkpoint_brings_its_bert_along(bert: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(bert, tmp_path / "secret place" / "bert"))
    model = MaskClip(ModelConfig(name="nano", image_size=32, text_tower=str(source))).eval()
    save_model(tmp_path / "run", model)
    shutil.rmtree(source)
    again = load_weights(tmp_path / "run")
    assert torch.equal(
        again.encode_text(again.tokenize(TEXTS)), model.encode_text(model.tokenize(TEXTS))
    )
    assert not [
        file
        for file in (tmp_path / "run").rglob("*")
        if file.is_file() and b"secret" in file.read_bytes()
    ]


@pytest.mark.parametrize("preset", ["heads", "vision"])
def test_clip_captions_are_kept_before_their_projection(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MaskClip(ModelConfig(name="nano", image_size=32))
    set_trainable(model, preset)
    expected = model.encode_text(model.tokenize(TEXTS))
    assert torch.allclose(model.encode_captions(TEXTS), expected, atol=1e-5)
    monkeypatch.setattr(model, "tokenize", lambda texts: pytest.fail("encoded again"))
    with torch.no_grad():
        model.towers.text.text_projection.mul_(2)
    assert torch.allclose(model.encode_captions(TEXTS), 2 * expected, atol=1e-5)
    assert model.encode_captions(TEXTS).requires_grad == (preset == "heads")


def test_a_frozen_tower_encodes_each_caption_once(
    model: MaskClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_trainable(model, "vision")
    model.train()
    assert not model.towers.text.transformer.training
    seen: list[str] = []
    tokenize = model.tokenize
    monkeypatch.setattr(model, "tokenize", lambda texts: (seen.extend(texts), tokenize(texts))[1])
    with torch.inference_mode():
        first = model.encode_captions(TEXTS)
    second = model.encode_captions(TEXTS)
    assert seen == ["a fetal head", "the femur"]
    assert torch.equal(first, second)
    assert torch.allclose(second, model.encode_text(tokenize(TEXTS)), atol=1e-6)
    second.sum().backward()
    assert model.towers.text.proj.weight.grad is not None
    assert model.towers.text.transformer.embeddings.word_embeddings.weight.grad is None


def test_what_is_kept_of_a_caption_does_not_depend_on_the_captions_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = MaskClip(ModelConfig(name="nano", image_size=32))
    set_trainable(model, "vision")
    texts = [f"the femur{' of a fetus' * words}" for words in range(6)]
    body, rows, kept = model_module.text_body, [], []
    monkeypatch.setattr(
        model_module,
        "text_body",
        lambda tower, tokens: rows.append(len(tokens)) or body(tower, tokens),
    )
    for batches in ([texts], [texts[4:], texts[::-1]], [[caption] for caption in texts]):
        for batch in batches:
            model.encode_captions(batch)
        kept.append(dict(model._captions))
        model.forget_captions()
    assert rows == [1] * 18  # of more rows the last bits differ on some machines
    assert all(
        torch.equal(value, other[caption])
        for other in kept[1:]
        for caption, value in kept[0].items()
    )


def test_kept_captions_are_forgotten_when_weights_come_in(model: MaskClip) -> None:
    set_trainable(model, "vision")
    before = model.encode_captions(TEXTS)
    changed = {name: weight * 1.5 for name, weight in model.state_dict().items()}
    model.load_state_dict(changed)
    assert not torch.allclose(before, model.encode_captions(TEXTS))


def test_a_learning_tower_is_asked_every_time(model: MaskClip) -> None:
    set_trainable(model, "all", "all")
    before = model.encode_captions(TEXTS)
    with torch.no_grad():
        model.towers.text.transformer.embeddings.word_embeddings.weight.mul_(2)
    assert not torch.allclose(before, model.encode_captions(TEXTS))


def test_a_context_beyond_the_positions_is_refused(bert: Path) -> None:
    with pytest.raises(SonoError, match="has 128 positions, not 200"):
        MaskClip(ModelConfig(name="nano", image_size=32, text_tower=str(bert), context_length=200))


@pytest.mark.parametrize("way", ["no configuration", "no weights", "not JSON", "unknown kind"])
def test_a_broken_folder_is_one_line(way: str, bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "bert"))
    if way == "no weights":
        (folder / "model.safetensors").unlink()
    elif way == "no configuration":
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(
            "{" if way == "not JSON" else json.dumps({"model_type": "gpt-fetal"})
        )
    with pytest.raises(SonoError, match="not available") as caught:
        MaskClip(ModelConfig(name="nano", image_size=32, text_tower=str(folder)))
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_towers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        SonoError, match=r"'bert-base' needs transformers; install it with `pip install .\[bert\]`"
    ):
        MaskClip(ModelConfig(name="nano", text_tower="bert-base"))


def test_a_clip_transformer_may_have_another_tokenizer_which_is_kept(
    bert: Path, tmp_path: Path
) -> None:
    vision = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 16}
    words = {
        "hf_tokenizer_name": str(bert),
        "context_length": 8,
        "vocab_size": 20,
        "width": 64,
        "heads": 1,
        "layers": 1,
    }
    architecture = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": words}
    save_model(tmp_path, MaskClip(ModelConfig(architecture=architecture)))
    again = load_weights(tmp_path)
    assert again.tokenize(["a fetal head"])[0, :5].tolist() == [2, 5, 6, 7, 3]
    assert again.towers.text.context_length == 8


def test_a_name_that_is_nowhere_is_one_line_and_asks_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    asked: list[object] = []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: asked.append(given) or [])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SonoError, match=r"text tower 'nofolder': not available .* HF_HUB_OFFLINE=0"
    ):
        MaskClip(ModelConfig(name="nano", image_size=32, text_tower="nofolder"))
    assert asked == []
    assert capfd.readouterr().err == ""


def _without_words(folder: Path) -> None:
    for file in folder.glob("*vocab*"):
        file.unlink()
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _other_weights(folder: Path) -> None:
    save_file({"foo": torch.zeros(3)}, folder / "model.safetensors")


def _one_layer_more(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def _one_layer_less(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))


def _not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: torch.full_like(each, torch.nan) for name, each in weights.items()},
        folder / "model.safetensors",
    )


def _cut_short(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])


def _no_padding(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 999}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without_words, "its tokenizer knows no word"),
        (_other_weights, "its weights do not fit its config.json"),
        (_one_layer_more, r"its weights do not fit its config.json \(encoder.layer.2"),
        (_one_layer_less, r"its weights do not fit its config.json \(encoder.layer.1"),
        (_not_finite, "its weights are not finite"),
        (_cut_short, "not available"),
        (_no_padding, "not available"),
    ],
)
def test_a_broken_bert_is_one_line(
    change: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    folder = write_bert(tmp_path / "bert")
    change(folder)
    with pytest.raises(SonoError, match=told):
        MaskClip(ModelConfig(name="nano", image_size=32, text_tower=str(folder)))


def test_a_run_that_has_lost_its_words_says_so(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    folder = tmp_path / "best"
    save_model(
        folder,
        MaskClip(
            ModelConfig(name="nano", image_size=32, text_tower=str(write_bert(tmp_path / "bert")))
        ),
    )
    _without_words(folder / "text")
    with pytest.raises(SonoError, match="its tokenizer knows no word"):
        load_weights(folder)
