import platform
import subprocess
import sys

import numpy as np
import pytest
import tiny
from keras import ops

import igpt_keras
from igpt_keras import codec
from igpt_keras.codec import token_file
from igpt_keras.codec.exact_network import ExactNetwork


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def content(model):
    return codec.compress(model, tiny.grey_palette(), tiny.token_ids())


def test_as_long_as_the_loss(model):
    """By the loss that Keras computes, within 0.5 %; and back."""
    token_ids = tiny.token_ids(600)
    content = codec.compress(model, tiny.grey_palette(), token_ids)
    logits = model(token_ids)
    nats = tiny.array(
        ops.sparse_categorical_crossentropy(token_ids, logits, from_logits=True)
    ).sum()
    bits = 8 * (len(content) - codec.HEADER_BYTES)
    assert abs(bits * np.log(2) / nats - 1) < 0.005
    found = codec.decompress(model, tiny.grey_palette(), content)
    assert found.dtype == "int32"
    np.testing.assert_array_equal(found, token_ids)


def test_batches(model, content, monkeypatch):
    """Several, the last one smaller."""
    monkeypatch.setattr(token_file, "_MOST", 3)
    found = codec.compress(model, tiny.grey_palette(), tiny.token_ids())
    assert found != content
    token_ids = codec.decompress(model, tiny.grey_palette(), found)
    np.testing.assert_array_equal(token_ids, tiny.token_ids())


def test_a_classifier_codes_as_its_model(model, content):
    classifier = igpt_keras.IGPTClassifier(model, 3)
    found = codec.decompress(classifier, tiny.grey_palette(), content)
    np.testing.assert_array_equal(found, tiny.token_ids())


# Tokens come out right even where conditionals are a little wrong, so that
# their bits are compared too.
PROGRAM = """
import pathlib, sys
import numpy as np
import igpt_keras
from igpt_keras.codec.exact_network import ExactNetwork
model, tokenizer = igpt_keras.open_weights(sys.argv[1])
content = pathlib.Path(sys.argv[2]).read_bytes()
token_ids = igpt_keras.codec.decompress(model, tokenizer, content)
network = ExactNetwork(model)
network.begin(len(token_ids))
found = [network.next()] + [network.next(x) for x in token_ids.T[:-1]]
np.savez(sys.argv[3], token_ids=token_ids, conditionals=np.stack(found))
"""


def test_other_threads_and_instructions(tmp_path, subprocess_environment):
    """Another process computes every product by another routine."""
    model = tiny.model(
        num_layers=1, num_heads=4, hidden_dim=token_file._THREADED_WIDTH
    )
    tokenizer = tiny.grey_palette()
    model.save_to_preset(tmp_path / "preset", tokenizer=tokenizer)
    token_ids = tiny.token_ids(16)
    content = codec.compress(model, tokenizer, token_ids)
    (tmp_path / "file").write_bytes(content)
    # This process has one thread of each: see `conftest.py`.
    names = ("OMP_NUM", "OPENBLAS_NUM", "TF_NUM_INTRAOP")
    other = {f"{name}_THREADS": "2" for name in names}
    if platform.machine() == "x86_64":
        other["OPENBLAS_CORETYPE"] = "Prescott"
    paths = [str(tmp_path / name) for name in ("preset", "file", "found.npz")]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths],
        env={**subprocess_environment, **other},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    network = ExactNetwork(model)
    network.begin(len(token_ids))
    expected = [network.next()]
    expected += [network.next(token) for token in token_ids.T[:-1]]
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["token_ids"], token_ids)
        np.testing.assert_array_equal(found["conditionals"], expected)


@pytest.mark.parametrize("length", [0, 3, 4, 29, 30, 46, -4, -1])
def test_cut_short(length, model, content):
    message = "cut short" if length not in (0, 3) else "is no file"
    with pytest.raises(ValueError, match=message):
        codec.decompress(model, tiny.grey_palette(), content[:length])


def test_damage(model, content):
    for i in range(4, len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 1
        with pytest.raises(ValueError, match="damaged"):
            codec.check_file(model, tiny.grey_palette(), bytes(damaged))


def test_another_model(content):
    other = tiny.model()
    other.blocks[1].mlp_up.kernel.assign(other.blocks[1].mlp_up.kernel * 1.0001)
    with pytest.raises(ValueError, match="another model or tokenizer"):
        codec.decompress(other, tiny.grey_palette(), content)


def test_another_tokenizer(model, content):
    palette = tiny.grey_palette().palette * 0.5
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    with pytest.raises(ValueError, match="another model or tokenizer"):
        codec.decompress(model, tokenizer, content)


def test_another_version(model, content, monkeypatch):
    monkeypatch.setattr(token_file, "_VERSION", 2)
    with pytest.raises(ValueError, match="has version 1"):
        codec.decompress(model, tiny.grey_palette(), content)


def test_other_numbers_are_refused(model, content, monkeypatch):
    """As where arithmetic is another: never other tokens in silence."""
    original = ExactNetwork.next

    def other(self, previous=None):
        found = original(self, previous)
        return found[:, ::-1].copy() if self._position == 7 else found

    monkeypatch.setattr(ExactNetwork, "next", other)
    with pytest.raises(ValueError, match="decodes to other tokens"):
        codec.decompress(model, tiny.grey_palette(), content)


@pytest.mark.parametrize("change", ["range", "float", "shape", "none"])
def test_bad_tokens(change, model):
    token_ids = {
        "range": tiny.token_ids() + 1,
        "float": tiny.token_ids().astype("float32"),
        "shape": tiny.token_ids()[:, :15],
        "none": tiny.token_ids()[:0],
    }[change]
    with pytest.raises(ValueError, match="token_ids"):
        codec.compress(model, tiny.grey_palette(), token_ids)
