"""The switches of section A.1."""

import json

import gradients
import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras
from igpt_keras import presets


def test_heads_of_section_a_1():
    """Where they start from, and what a tied one is made of."""
    size = {**tiny.SIZE, "vocabulary_size": 64, "hidden_dim": 48}
    zeros, normal, tied = (
        igpt_keras.IGPT(**size, head=head)
        for head in ("zeros", "normal", "tied")
    )
    assert not array(zeros.head.kernel).any()
    tiny.check_std(normal.head.kernel, 0.02)
    for model in (zeros, normal, tied):
        expected = presets.count_parameters(**size, head=model.head_kind)
        assert model.count_params() == expected
    token_ids = tiny.token_ids(size=size)
    features = igpt_keras.extract_features(tied, [(token_ids, [0, 1, 0, 1])])
    mean = array(tied(token_ids)).mean(axis=1)
    table = array(tied.embedding.token_embedding)
    np.testing.assert_allclose(mean, features[0][-1] @ table.T, atol=1e-5)
    with pytest.raises(ValueError, match="Unknown head 'ones'"):
        igpt_keras.IGPT(**size, head="ones")


def test_a_tied_table_gets_both_gradients():
    model = tiny.model(head="tied")
    token_ids = tiny.token_ids()
    table = model.embedding.token_embedding

    def loss(x):
        logits = model(token_ids)
        return keras.ops.mean(
            keras.ops.sparse_categorical_crossentropy(
                token_ids, logits, from_logits=True
            )
        )

    (found,) = gradients.of_variables(lambda: loss(None), [table])
    before, step = array(table), 1e-2
    for row, column in ((0, 0), (3, 7), (10, 14)):
        losses = []
        for sign in (1, -1):
            moved = before.copy()
            moved[row, column] += sign * step
            table.assign(moved)
            losses.append(float(loss(None)))
        expected = (losses[0] - losses[1]) / (2 * step)
        assert abs(found[row, column] - expected) < 2e-3
    table.assign(before)


def test_depth_scaled_mlp():
    """`0.02 / sqrt(L)`, and nothing else changes."""
    size = {**tiny.SIZE, "hidden_dim": 96, "num_layers": 4}
    model = igpt_keras.IGPT(**size, depth_scaled_mlp=True)
    block = model.blocks[1]
    tiny.check_std(block.mlp_down.kernel, 0.01)
    tiny.check_std(block.mlp_up.kernel, 0.02)
    out = block.attention.output_projection.kernel
    tiny.check_std(out, (96 * 4) ** -0.5)


def test_dropout_is_of_training_alone():
    model, token_ids = tiny.model(dropout=0.5), tiny.token_ids()
    plain = tiny.model()
    expected = array(plain(token_ids))
    np.testing.assert_array_equal(array(model(token_ids)), expected)
    # Embeddings and both branches of every block.
    assert np.abs(array(model(token_ids, training=True)) - expected).min() > 0
    assert len(model.variables) - len(model.weights) == 1 + model.num_layers
    assert len(plain.variables) == len(plain.weights)
    samples = [igpt_keras.sample(m, 2, seed=1) for m in (model, plain)]
    np.testing.assert_array_equal(*samples)


@pytest.mark.parametrize("head", ["normal", "tied"])
def test_variants_save_and_open(head, tmp_path):
    arguments = {"head": head, "dropout": 0.25, "depth_scaled_mlp": True}
    model, token_ids = tiny.model(**arguments), tiny.token_ids()
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    for copy in (
        igpt_keras.IGPT.from_preset(tmp_path / "preset"),
        keras.saving.load_model(tmp_path / "model.keras", safe_mode=True),
    ):
        assert arguments.items() <= copy.get_config().items()
        np.testing.assert_array_equal(
            array(copy(token_ids)), array(model(token_ids))
        )
    copy = igpt_keras.IGPT.from_preset(tmp_path / "preset", dropout=0.0)
    assert copy.dropout == 0
    with pytest.raises(ValueError, match=r"\['head'\] cannot be changed"):
        igpt_keras.IGPT.from_preset(tmp_path / "preset", head="zeros")


def test_a_plain_model_is_described_as_before(tmp_path):
    """So that older versions open it."""
    tiny.model().save_to_preset(tmp_path / "preset")
    config = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert set(config["model"]) == {*tiny.SIZE, "objective"}


def test_the_seed_means_the_same_weights_in_each_variant():
    """But for those that a switch is about."""
    models = {}
    for name, arguments in {
        "usual": {},
        "tied": {"head": "tied"},
        "scaled": {"depth_scaled_mlp": True},
    }.items():
        keras.utils.set_random_seed(3)
        models[name] = igpt_keras.IGPT(**tiny.SIZE, **arguments)
    usual = {v.path: array(v) for v in models["usual"].weights}
    for variable in models["tied"].weights:
        np.testing.assert_array_equal(array(variable), usual[variable.path])
    for variable in models["scaled"].weights:
        scale = 3**-0.5 if "mlp_down" in variable.path else 1
        np.testing.assert_allclose(
            array(variable), scale * usual[variable.path], rtol=1e-5
        )
