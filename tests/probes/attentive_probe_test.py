import keras
import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.probes import AttentiveProbe
from igpt_keras.probes.features import FeatureModel

RATES = (0.03, 0.001)
LAYERS = (1, 3)


def data():
    token_ids = tiny.token_ids(24)
    return token_ids, (token_ids[:, 5] % 3).astype("int32")


def randomise(probe, scale=0.5):
    generator = np.random.default_rng(7)
    for variable in probe.trainable_variables:
        variable.assign(generator.normal(size=variable.shape) * scale)
    mean, variance = probe.normalization.non_trainable_variables
    mean.assign(generator.normal(size=mean.shape))
    variance.assign(generator.uniform(0.5, 2, variance.shape))


def by_hand(probe, tokens, mean, variance, r, p):
    """Keys, values and one query a head, in float64, of one probe."""
    x = (tokens - mean) / np.sqrt(variance + 1e-6)
    query, key, value, kernel, bias = (
        tiny.array(v).astype("float64")[r, p]
        for v in (
            probe.query,
            probe.key_kernel,
            probe.value_kernel,
            probe.kernel,
            probe.bias,
        )
    )
    heads = []
    for h in range(query.shape[0]):
        scores = x @ key[:, h] @ query[h] / np.sqrt(query.shape[1])
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        heads.append(np.einsum("bn,bnk->bk", share, x @ value[:, h]))
    return np.concatenate(heads, axis=1) @ kernel + bias


def test_is_attention_of_a_learned_query():
    """Of features of single positions, as `extract_features` averages them."""
    x, y = data()
    model = tiny.model()
    probe = AttentiveProbe(model, 3, LAYERS, RATES)
    randomise(probe)
    tokens = [tiny.array(t) for t in FeatureModel(model).token_features(x)]
    features, _ = igpt_keras.extract_features(model, [(x, y)])
    np.testing.assert_allclose(
        np.mean(tokens, axis=2), features, rtol=1e-4, atol=1e-5
    )
    mean, variance = (
        tiny.array(v).reshape(2, -1)
        for v in probe.normalization.non_trainable_variables
    )
    for training in (False, True):
        logits = tiny.array(probe(x, training=training))
        assert logits.shape == (24, 2, 2, 3)
        for p, layer in enumerate(LAYERS):
            own = tokens[layer].astype("float64")
            statistics = mean[p], variance[p]
            if training:
                statistics = own.mean(axis=(0, 1)), own.var(axis=(0, 1))
            for r in range(2):
                expected = by_hand(probe, own, *statistics, r, p)
                np.testing.assert_allclose(
                    logits[:, r, p], expected, rtol=2e-3, atol=2e-3
                )


def fit(probe, x, y, steps=6, **arguments):
    probe.compile(steps)
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0, **arguments}
    probe.fit(x, y, epochs=steps * 8 // len(y), **arguments)
    return [tiny.array(v) for v in probe.trainable_variables]


def test_each_probe_moves_as_if_alone():
    """And the network, whose dropout is off, not at all."""
    x, y = data()
    model = tiny.model()
    dropping = tiny.model(dropout=0.5)
    before = [tiny.array(v) for v in dropping.weights]
    together = fit(AttentiveProbe(dropping, 3, LAYERS, RATES), x, y)
    for variable, value in zip(dropping.weights, before, strict=True):
        np.testing.assert_array_equal(tiny.array(variable), value)
    alone = AttentiveProbe(model, 3, [LAYERS[1]], [RATES[0]])
    # Keras's own Adam, of the one rate.
    schedule = keras.optimizers.schedules.CosineDecay(RATES[0], 6)
    alone.grid_optimizer = lambda _: keras.optimizers.Adam(schedule)
    moved = fit(alone, x, y)
    for one, all_of_them in zip(moved, together, strict=True):
        limit = 0.03 * np.abs(one).max()
        np.testing.assert_allclose(one[0, 0], all_of_them[0, 1], atol=limit)
        # Another rate, and for what sees features another layer, moved
        # elsewhere.
        others = [all_of_them[1, 1], all_of_them[0, 0]]
        for other in others if one.ndim > 3 else others[:1]:
            assert np.abs(one[0, 0] - other).max() > 5 * limit


@pytest.mark.compiled
def test_fresh_probes_know_nothing_and_learn():
    """A token's class, which the mean over sixteen of them hides."""
    x, y = data()
    probe = AttentiveProbe(tiny.model(), 3, [0], [0.03])
    probe.compile(60)
    loss, _ = probe.evaluate(x, y, batch_size=7, verbose=0)
    assert loss == pytest.approx(np.log(3), abs=1e-5)
    probe.fit(x, y, batch_size=24, epochs=60, verbose=0)
    probe.evaluate(x, y, verbose=0)
    assert probe.accuracies[0, 0] > 0.9


def test_takes_token_ids_of_bert_alone():
    model = tiny.model("bert")
    probe = AttentiveProbe(igpt_keras.IGPTClassifier(model, 3), 3, [2])
    randomise(probe)
    x = tiny.token_ids()
    nothing = {"token_ids": x, "mask": np.zeros(x.shape, "bool")}
    np.testing.assert_allclose(
        tiny.array(probe(x)), tiny.array(probe(nothing)), atol=1e-5
    )
    hidden = tiny.array(probe({"token_ids": x, "mask": tiny.mask()}))
    assert np.abs(hidden - tiny.array(probe(x))).max() > 1e-2


def test_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="num_heads=2 does not divide"):
        AttentiveProbe(tiny.model(), 3, num_heads=2)
