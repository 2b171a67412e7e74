import json
import pathlib

import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras

PALETTE = np.linspace(-1, 1, 33).reshape(11, 3).astype("float32")


def prefixed(token_ids):
    start = np.full((len(token_ids), 1), tiny.SIZE["vocabulary_size"])
    return np.concatenate([start, token_ids[:, :-1]], axis=1)


def theirs(task, directory, token_ids):
    """Their model of a directory, and its logits."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", minversion="5")
    model_class = getattr(transformers, f"ImageGPTFor{task}")
    model = model_class.from_pretrained(directory).eval()
    with torch.no_grad():
        return model, model(torch.tensor(prefixed(token_ids))).logits.numpy()


@pytest.mark.each_backend
def test_transformers_computes_the_same_logits(tmp_path):
    model = tiny.model()
    igpt_keras.save_huggingface(model, tmp_path / "saved", PALETTE)
    token_ids = tiny.token_ids()
    hub_model, logits = theirs(
        "CausalImageModeling", tmp_path / "saved", token_ids
    )
    np.testing.assert_allclose(logits, array(model(token_ids)), atol=1e-4)
    # And back: what they save, in several files and in one.
    for name, size in (("one", "1GB"), ("several", "10KB")):
        hub_model.save_pretrained(tmp_path / name, max_shard_size=size)
        copy = igpt_keras.load_huggingface(tmp_path / name)
        for old, new in zip(model.weights, copy.weights, strict=True):
            np.testing.assert_array_equal(array(old), array(new))
    assert len(list((tmp_path / "several").glob("*.safetensors"))) > 1


@pytest.mark.each_backend
def test_transformers_computes_the_same_class_logits(tmp_path):
    classifier = igpt_keras.IGPTClassifier(tiny.model(), num_classes=4)
    kernel = np.random.default_rng(0).normal(size=(15, 4))
    classifier.class_head.kernel.assign(kernel)
    igpt_keras.save_huggingface(classifier, tmp_path / "saved")
    token_ids = tiny.token_ids()
    _, logits = theirs("ImageClassification", tmp_path / "saved", token_ids)
    expected = array(classifier(token_ids)["class_logits"])
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.each_backend
def test_their_processor_makes_the_same_tokens(tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", minversion="5")
    igpt_keras.save_huggingface(tiny.model(), tmp_path / "saved", PALETTE)
    processor = transformers.ImageGPTImageProcessorPil.from_pretrained(
        tmp_path / "saved"
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), "uint8")
    encoded = processor(list(images), input_data_format="channels_last")
    np.testing.assert_array_equal(
        np.asarray(encoded["input_ids"]),
        array(igpt_keras.PaletteTokenizer(PALETTE)(images)),
    )


@pytest.mark.each_backend
def test_classifier_round_trip(tmp_path):
    classifier = igpt_keras.IGPTClassifier(tiny.model(), num_classes=4)
    classifier.class_head.kernel.assign(np.ones((15, 4)))
    igpt_keras.save_huggingface(classifier, tmp_path / "saved", PALETTE)
    copy = igpt_keras.load_huggingface(tmp_path / "saved")
    assert isinstance(copy, igpt_keras.IGPTClassifier)
    for old, new in zip(classifier.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(array(old), array(new))
    assert {p.name for p in (tmp_path / "saved").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


@pytest.mark.each_backend
def test_configurations_say_what_theirs_say(tmp_path):
    """Every key that both have, but for dropout: Image GPT has none."""
    fixture = pathlib.Path(__file__).parent / "huggingface_tiny"
    model = igpt_keras.load_huggingface(fixture)
    tokenizer = igpt_keras.load_huggingface_palette(fixture)
    igpt_keras.save_huggingface(model, tmp_path / "saved", tokenizer)
    for name, least in (("config.json", 12), ("preprocessor_config.json", 5)):
        ours = json.loads((tmp_path / "saved" / name).read_text())
        theirs = json.loads((fixture / name).read_text())
        both = [k for k in ours if k in theirs and not k.endswith("pdrop")]
        assert len(both) >= least
        for key in both:
            assert ours[key] == theirs[key], key
        assert set(ours) <= set(theirs)


@pytest.mark.each_backend
def test_no_dropout_and_no_biases(tmp_path):
    """Their defaults have both; Image GPT has neither."""
    from safetensors.numpy import load_file

    igpt_keras.save_huggingface(tiny.model(), tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        assert config[key] == 0
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    biases = [name for name in tensors if name.endswith("bias")]
    assert len(biases) == 4 * tiny.SIZE["num_layers"]
    assert not any(tensors[name].any() for name in biases)


def test_refuses(tmp_path):
    model = tiny.model()
    with pytest.raises(ValueError, match="BERT model cannot run"):
        igpt_keras.save_huggingface(tiny.model("bert"), tmp_path / "bert")
    with pytest.raises(ValueError, match="3 colours and the model .* of 11"):
        igpt_keras.save_huggingface(model, tmp_path / "x", PALETTE[:3])
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    model.save_to_preset(tmp_path / "preset")
    for name, message in (
        ("thesis", r"other files \(chapter.txt\), which would be lost"),
        ("preset", "is no Hugging Face Image GPT"),
    ):
        with pytest.raises(ValueError, match=message):
            igpt_keras.save_huggingface(model, tmp_path / name)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"
    model.head.kernel.assign(np.full((15, 11), np.nan))
    with pytest.raises(ValueError, match="head/kernel is not finite"):
        igpt_keras.save_huggingface(model, tmp_path / "nan")
    assert {p.name for p in tmp_path.iterdir()} == {"thesis", "preset"}


def test_a_palette_is_not_lost(tmp_path):
    model = tiny.model()
    igpt_keras.save_huggingface(model, tmp_path / "saved", PALETTE)
    with pytest.raises(ValueError, match="holds a palette, which would be"):
        igpt_keras.save_huggingface(model, tmp_path / "saved")
    kept = igpt_keras.load_huggingface_palette(tmp_path / "saved")
    np.testing.assert_array_equal(kept.palette, PALETTE)
    igpt_keras.save_huggingface(model, tmp_path / "saved", PALETTE[::-1])
