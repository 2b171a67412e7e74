"""Saved in any state, a model opens as the same function or is refused."""

import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras


def opened_by_keras(model, directory):
    model.save(directory / "model.keras")
    return keras.saving.load_model(directory / "model.keras")


def opened_preset(model, directory):
    model.save_to_preset(directory / "preset")
    return type(model).from_preset(directory / "preset")


def trained(model):
    return [v.path.split("/", 1)[-1] for v in model.trainable_variables]


@pytest.mark.each_backend
@pytest.mark.parametrize("opened", [opened_by_keras, opened_preset])
@pytest.mark.parametrize("kind", ["autoregressive", "bert", "classifier"])
def test_frozen_parts_stay_frozen(kind, opened, tmp_path):
    model = tiny.model("bert" if kind == "bert" else "autoregressive")
    model.embedding.trainable = False
    model.blocks[0].trainable = False
    model.blocks[1].mlp_up.trainable = False
    if kind == "classifier":
        model = igpt_keras.IGPTClassifier(model, 3)
        model.class_head.trainable = False
    copy = opened(model, tmp_path)
    assert len(trained(model)) < len(model.weights) - 9
    assert trained(copy) == trained(model)
    igpt = getattr(copy, "igpt", copy)
    assert not igpt.blocks[0].mlp_up.kernel.trainable
    # What is frozen is not what cannot be trained any more.
    for part in (igpt.embedding, igpt.blocks[0], igpt.blocks[1].mlp_up):
        # Keras leaves the weights alone where a layer's own value stays.
        part.trainable = False
        part.trainable = True
    if kind == "classifier":
        copy.class_head.trainable = False
        copy.class_head.trainable = True
    assert len(copy.trainable_variables) == len(copy.weights)


@pytest.mark.each_backend
@pytest.mark.parametrize("opened", [opened_by_keras, opened_preset])
def test_models_that_are_frozen_as_a_whole_stay_so(opened, tmp_path):
    model = tiny.model()
    model.trainable = False
    assert trained(opened(model, tmp_path)) == []
    model.trainable = True
    assert trained(opened(model, tmp_path)) == trained(model)
    classifier = igpt_keras.IGPTClassifier(tiny.model(), 3)
    classifier.igpt.trainable = False
    classifier.class_head.trainable = True
    copy = opened(classifier, tmp_path)
    assert len(copy.trainable_variables) == 1
    assert copy.trainable_variables[0] is copy.class_head.kernel


def save_openai(model, directory):
    pytest.importorskip("tensorflow")
    igpt_keras.save_openai_checkpoint(model, directory / "model.ckpt-1")


def save_huggingface(model, directory):
    igpt_keras.save_huggingface(model, directory / "huggingface")


def save_preset(model, directory):
    model.save_to_preset(directory / "preset")


@pytest.mark.parametrize("save", [save_preset, save_huggingface, save_openai])
def test_lora_is_refused_by_what_cannot_hold_it(save, tmp_path):
    model = tiny.model()
    model.blocks[1].mlp_up.enable_lora(2)
    for saved in (model, igpt_keras.IGPTClassifier(model, 3)):
        with pytest.raises(ValueError, match="The model has LoRA weights"):
            save(saved, tmp_path)
    assert not list(tmp_path.iterdir())


def test_lora_is_added_to_the_kernels_by_keras(tmp_path):
    model, token_ids = tiny.model(), tiny.token_ids()
    before = array(model(token_ids))
    for layer in (model.blocks[1].mlp_up, model.blocks[0].attention.query):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    after = array(model(token_ids))
    assert np.abs(after - before).max() > 0.1
    copy = opened_by_keras(model, tmp_path)
    np.testing.assert_allclose(array(copy(token_ids)), after, atol=1e-4)
    assert trained(copy) == trained(tiny.model())
    save_preset(copy, tmp_path)
    again = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        array(again(token_ids)), array(copy(token_ids))
    )


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.parametrize(
    "save", [save_preset, save_huggingface, save_openai, opened_by_keras]
)
def test_quantized_models_are_refused(save, tmp_path):
    model = tiny.model()
    classifier = igpt_keras.IGPTClassifier(tiny.model(), 3)
    part = tiny.model()
    part.blocks[2].mlp_down.quantize("int8")
    for saved in (model, classifier):
        saved.quantize("int8")
    for saved in (model, classifier, part):
        with pytest.raises(ValueError, match="uantized"):
            save(saved, tmp_path)
    assert not list(tmp_path.glob("*/*"))


def test_refuses_a_preset_that_freezes_what_it_has_not(tmp_path):
    model = tiny.model()
    model.embedding.trainable = False
    save_preset(model, tmp_path)
    path = tmp_path / "preset" / "config.json"
    text = path.read_text()
    for change, message in (
        (("position_embedding", "positions"), "the model has no such weight"),
        (('"frozen": [', '"frozen": [1,'), "expected a list of names"),
    ):
        path.write_text(text.replace(*change))
        with pytest.raises(ValueError, match=message):
            igpt_keras.IGPT.from_preset(tmp_path / "preset")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_tilde_is_the_home_directory(home):
    model = tiny.model()
    model.save_to_preset("~/preset")
    igpt_keras.save_huggingface(
        igpt_keras.IGPTClassifier(model, 3),
        "~/huggingface",
        palette=np.linspace(-1, 1, 33).reshape(11, 3).astype("float32"),
    )
    assert sorted(p.name for p in home.iterdir()) == ["huggingface", "preset"]
    igpt_keras.IGPT.from_preset("~/preset")
    igpt_keras.load_huggingface("~/huggingface")
    igpt_keras.load_huggingface_palette("~/huggingface")
    for name in ("preset", "huggingface"):
        igpt_keras.open_weights(f"~/{name}")
    classifier = igpt_keras.IGPTClassifier(model, 3)
    classifier.save_to_preset("~/classifier")
    igpt_keras.IGPTClassifier.from_preset("~/classifier")
    with pytest.raises(ValueError, match="names no user"):
        igpt_keras.IGPT.from_preset("~nobody-of-this-name/preset")
    # Nothing of that name in the working directory.
    assert [p.name for p in home.parent.iterdir()] == ["home"]


def test_a_tilde_is_the_home_directory_for_openai_checkpoints(home):
    pytest.importorskip("tensorflow")
    igpt_keras.save_openai_checkpoint(tiny.model(), "~/model.ckpt-1")
    assert (home / "model.ckpt-1.index").is_file()
    for path in ("~/model.ckpt-1", "~/model.ckpt-1.index", "~"):
        igpt_keras.load_openai_checkpoint(path)
    igpt_keras.open_weights("~/model.ckpt-1")
