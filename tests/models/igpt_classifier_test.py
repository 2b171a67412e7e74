import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras

LABELS = np.array([0, 2, 1, 2])


def classifier(objective="autoregressive", **arguments):
    built = igpt_keras.IGPTClassifier(tiny.model(objective), 3, **arguments)
    generator = np.random.default_rng(4)
    built.class_head.kernel.assign(generator.normal(size=(15, 3)))
    built.compile(keras.optimizers.SGD(0.1))
    return built


def inputs(objective):
    token_ids = tiny.token_ids()
    if objective == "bert":
        return {"token_ids": token_ids, "mask": tiny.mask()}
    return token_ids


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_loss_is_generative_plus_classification(objective, weight):
    model, x = (
        classifier(objective, generative_weight=weight),
        inputs(objective),
    )
    outputs = {k: array(v).astype("float64") for k, v in model(x).items()}
    token_ids = tiny.token_ids()
    if objective == "bert":
        generative = reference.bert_loss(
            outputs["token_logits"], token_ids, tiny.mask()
        )
    else:
        generative = reference.nats(outputs["token_logits"], token_ids).mean()
    classes = reference.nats(outputs["class_logits"], LABELS).mean()
    results = model.evaluate(x, LABELS, return_dict=True, verbose=0)
    assert abs(results["loss"] - (weight * generative + classes)) < 1e-5
    right = (outputs["class_logits"].argmax(axis=1) == LABELS).mean()
    (accuracy,) = (v for k, v in results.items() if "accuracy" in k)
    assert abs(accuracy - right) < 1e-6


def test_head_reads_the_feature_of_the_last_layer():
    model, token_ids = classifier(), tiny.token_ids()
    features, _ = igpt_keras.extract_features(model.igpt, [(token_ids, LABELS)])
    np.testing.assert_allclose(
        array(model(token_ids)["class_logits"]),
        features[-1] @ array(model.class_head.kernel),
        atol=1e-4,
    )


def test_class_loss_alone_trains_the_trunk():
    model, token_ids = classifier(generative_weight=0.0), tiny.token_ids()
    before = {v.path: array(v) for v in model.trainable_variables}
    model.fit(token_ids, LABELS, verbose=0)
    for variable in model.trainable_variables:
        moved = not np.array_equal(array(variable), before[variable.path])
        # The head over tokens has no part in it.
        assert moved == (variable is not model.igpt.head.kernel), variable.path


def test_fresh_losses_are_ln_v_plus_ln_c():
    model = igpt_keras.IGPTClassifier(igpt_keras.IGPT(**tiny.SIZE), 3)
    model.compile()
    results = model.evaluate(tiny.token_ids(), LABELS, verbose=0)
    assert abs(results[0] - (np.log(11) + np.log(3))) < 1e-6


def test_keras_saving_round_trip(tmp_path):
    model, token_ids = classifier(generative_weight=0.5), tiny.token_ids()
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert copy.generative_weight == 0.5
    for name, output in model(token_ids).items():
        np.testing.assert_array_equal(
            array(copy(token_ids)[name]), array(output)
        )
    losses = [
        m.fit(token_ids, LABELS, epochs=2, verbose=0).history["loss"]
        for m in (model, copy)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    with pytest.raises(ValueError, match=r"must be in \[0, 11\)"):
        model(token_ids + 11)


def test_refuses_bad_arguments():
    model = tiny.model()
    with pytest.raises(ValueError, match="model must be an IGPT"):
        igpt_keras.IGPTClassifier(keras.Sequential(), 3)
    with pytest.raises(ValueError, match="num_classes must be an int >= 2"):
        igpt_keras.IGPTClassifier(model, 1)
    with pytest.raises(ValueError, match="generative_weight must be >= 0"):
        igpt_keras.IGPTClassifier(model, 3, generative_weight=-1)
