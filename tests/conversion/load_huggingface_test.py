"""On a directory that transformers saved, whether or not it is installed."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file
from safetensors.numpy import save_file
from tiny import array

import igpt_keras

FIXTURE = pathlib.Path(__file__).parent / "huggingface_tiny"


@pytest.fixture
def directory(tmp_path):
    return pathlib.Path(shutil.copytree(FIXTURE, tmp_path / "huggingface"))


def edit(directory, change):
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def configure(directory, name="config.json", **changes):
    config = json.loads((directory / name).read_text())
    (directory / name).write_text(json.dumps({**config, **changes}))


def test_logits_are_what_transformers_computed():
    model = igpt_keras.load_huggingface(FIXTURE)
    expected = np.load(FIXTURE / "expected.npz")
    assert (model.num_layers, model.num_heads, model.hidden_dim) == (3, 3, 15)
    logits = array(model(expected["token_ids"]))
    assert np.abs(expected["logits"]).max() > 1
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)


def test_palette_gives_the_tokens_of_their_processor():
    tokenizer = igpt_keras.load_huggingface_palette(FIXTURE)
    expected = np.load(FIXTURE / "expected.npz")
    np.testing.assert_array_equal(
        array(tokenizer(expected["images"])), expected["token_ids"]
    )


def test_round_trip_is_bit_equal(tmp_path):
    model = igpt_keras.load_huggingface(FIXTURE)
    tokenizer = igpt_keras.load_huggingface_palette(FIXTURE)
    igpt_keras.save_huggingface(model, tmp_path / "copy", tokenizer)
    theirs = load_file(FIXTURE / "model.safetensors")
    ours = load_file(tmp_path / "copy" / "model.safetensors")
    assert set(theirs) == set(ours)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_several_files_and_old_buffers(directory):
    """As transformers shards large models, with masks as it used to save."""
    tensors = load_file(directory / "model.safetensors")
    tensors["transformer.h.0.attn.bias"] = np.ones((1, 1, 16, 16), "uint8")
    tensors["transformer.h.0.attn.masked_bias"] = np.float32([-1e4])
    names = sorted(tensors)
    weight_map = {}
    for i in range(2):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({n: tensors[n] for n in names[i::2]}, directory / file)
        weight_map.update(dict.fromkeys(names[i::2], file))
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (directory / "model.safetensors").unlink()
    model = igpt_keras.load_huggingface(directory)
    expected = np.load(FIXTURE / "expected.npz")
    np.testing.assert_allclose(
        array(model(expected["token_ids"])), expected["logits"], atol=1e-4
    )
    (directory / file).unlink()
    with pytest.raises(ValueError, match="names model-00002.* is not there"):
        igpt_keras.load_huggingface(directory)
    weight_map["lm_head.weight"] = "../model.safetensors"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match="is not there"):
        igpt_keras.load_huggingface(directory)


BIAS = "transformer.h.1.attn.c_attn.bias"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t[BIAS].__setitem__(3, 1e-3), f"{BIAS} is not zero"),
        (lambda t: t.pop("lm_head.weight"), "lm_head.weight.*no output head"),
        (
            lambda t: t.pop("transformer.h.2.ln_1.weight"),
            r"1 are missing \(transformer.h.2.ln_1.weight\), 0 are not known",
        ),
        (
            lambda t: t.update(extra=np.zeros(2, "float32")),
            r"0 are missing \(none\), 1 are not known \(extra\)",
        ),
        (
            lambda t: t.update(
                {"transformer.wte.weight": np.zeros((11, 15), "float32")}
            ),
            r"wte.weight has shape \(11, 15\), expected \(12, 15\)",
        ),
        (
            lambda t: t.update({"lm_head.weight": np.zeros((12, 15), "f4")}),
            r"lm_head.weight has shape \(12, 15\), expected \(11, 15\)",
        ),
        (
            lambda t: t["transformer.ln_f.weight"].__setitem__(0, np.nan),
            "ln_f.weight is not finite",
        ),
        (
            lambda t: t.update({"lm_head.weight": np.ones((11, 15), "i4")}),
            "lm_head.weight is int32",
        ),
        (
            lambda t: t.update({"score.weight": np.ones(15, "f4")}),
            "score.weight is no matrix",
        ),
    ],
)
def test_refuses_tensors(change, message, directory):
    edit(directory, change)
    with pytest.raises(ValueError, match=message):
        igpt_keras.load_huggingface(directory)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"activation_function": "gelu"}, "activation_function='gelu'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06"),
        ({"n_inner": 30}, "n_inner=30"),
        ({"vocab_size": 513}, r"wte.weight has shape .* expected \(513, 15\)"),
        ({"model_type": "gpt2"}, "'gpt2', expected 'imagegpt'"),
        ({"n_layer": "3"}, "n_layer must be a positive int"),
        ({"n_layer": 2}, r"10 are not known \(transformer.h.2"),
        ({"n_layer": 4}, r"no tensors transformer.h.3.\*, .* 4 layers"),
        ({"n_positions": 10**9}, r"expected \(1000000000, 15\)"),
        ({"n_head": 4}, "does not divide"),
    ],
)
def test_refuses_configurations(changes, message, directory):
    (directory / "preprocessor_config.json").unlink()
    configure(directory, **changes)
    with pytest.raises(ValueError, match=message):
        igpt_keras.load_huggingface(directory)


@pytest.mark.parametrize("clusters", [{}, "abc", [[0, 1], [2]], None])
def test_refuses_what_is_no_palette(clusters, directory):
    configure(directory, "preprocessor_config.json", clusters=clusters)
    with pytest.raises(ValueError, match="preprocessor_config.json has no"):
        igpt_keras.load_huggingface(directory)


@pytest.mark.parametrize("weight_map", [None, ["a"], {"a": 1}])
def test_refuses_a_damaged_index(weight_map, directory):
    (directory / "model.safetensors").unlink()
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match="index.json is damaged"):
        igpt_keras.load_huggingface(directory)


def test_refuses_another_palette(directory):
    configure(
        directory, "preprocessor_config.json", clusters=np.eye(3).tolist()
    )
    with pytest.raises(ValueError, match="3 colours, and the model .* of 11"):
        igpt_keras.load_huggingface(directory)


def test_refuses_damaged_and_missing_files(directory, tmp_path):
    with pytest.raises(ValueError, match="No config.json in .*nowhere"):
        igpt_keras.load_huggingface(tmp_path / "nowhere")
    weights = directory / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (b"", content[:1000], content[:-4], b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match="model.safetensors is damaged"):
            igpt_keras.load_huggingface(directory)
    weights.unlink()
    with pytest.raises(ValueError, match="holds no model.safetensors"):
        igpt_keras.load_huggingface(directory)
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(ValueError, match="a pickle.*save_pretrained"):
        igpt_keras.load_huggingface(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        igpt_keras.load_huggingface(directory)


def test_half_precision(directory):
    edit(
        directory,
        lambda t: t.update({k: v.astype("float16") for k, v in t.items()}),
    )
    model = igpt_keras.load_huggingface(directory)
    assert model.head.kernel.dtype == "float32"
    expected = np.load(FIXTURE / "expected.npz")
    difference = array(model(expected["token_ids"])) - expected["logits"]
    assert np.abs(difference).max() < 0.1


def test_position_table(directory):
    with pytest.raises(ValueError, match="interpolate_positions=True"):
        igpt_keras.load_huggingface(directory, sequence_length=64)
    model = igpt_keras.load_huggingface(
        directory, sequence_length=64, interpolate_positions=True
    )
    assert model.output_shape == (None, 64, 11)


def test_presets_and_directories_are_told_apart(tmp_path):
    tiny.model().save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="IGPT.from_preset"):
        igpt_keras.load_huggingface(tmp_path / "preset")
    with pytest.raises(ValueError, match="load_huggingface"):
        igpt_keras.IGPT.from_preset(FIXTURE)


def test_says_that_a_model_without_head_is_the_reason(directory):
    def as_image_gpt_model(tensors):
        del tensors["lm_head.weight"]
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)

    edit(directory, as_image_gpt_model)
    with pytest.raises(ValueError, match="ImageGPTModel, which has no output"):
        igpt_keras.load_huggingface(directory)


def test_says_that_a_head_of_one_class_is_the_reason(directory):
    def add_head(tensors):
        tensors["score.weight"] = np.zeros((1, 15), "float32")

    edit(directory, add_head)
    with pytest.raises(ValueError, match="score.weight is a head of one class"):
        igpt_keras.load_huggingface(directory)
