"""Against what the released TensorFlow 1 code computed."""

import json

import numpy as np
import pytest
from tiny import array

import igpt_keras


@pytest.fixture(params=["ar_small", "bert_small"])
def oracle(request, shared):
    tf = pytest.importorskip("tensorflow")
    directory = shared / "oracle" / request.param
    hparams = json.loads((directory / "hparams.json").read_text())
    reader = tf.train.load_checkpoint(
        str(directory / f"model.ckpt-{hparams['step']}")
    )
    model = igpt_keras.IGPT(
        vocabulary_size=hparams["n_vocab"],
        sequence_length=hparams["n_px"] ** 2,
        num_layers=hparams["n_layer"],
        num_heads=hparams["n_head"],
        hidden_dim=hparams["n_embd"],
        objective="bert" if hparams["bert"] else "autoregressive",
    )
    set_weights(model, lambda name: reader.get_tensor(f"model/{name}"))
    expected = np.load(directory / "expected.npz")
    inputs = expected["x"]
    if hparams["bert"]:
        inputs = {"token_ids": inputs, "mask": expected["uniform"] <= 0.15}
    return model, inputs, expected


def set_weights(model, get):
    embedding = model.embedding
    embedding.token_embedding.assign(get("wte"))
    embedding.position_embedding.assign(get("wpe"))
    if model.objective == "autoregressive":
        embedding.start_embedding.assign(get("sos"))
    for i, block in enumerate(model.blocks):
        block.attention_norm.scale.assign(get(f"h{i}/ln_1/g"))
        block.mlp_norm.scale.assign(get(f"h{i}/ln_2/g"))
        for name in ("query", "key", "value"):
            kernel = get(f"h{i}/attn/{name[0]}_proj")
            getattr(block.attention, name).kernel.assign(
                kernel.transpose(2, 0, 1)
            )
        block.attention.output_projection.kernel.assign(
            get(f"h{i}/attn/c_proj")
        )
        block.mlp_up.kernel.assign(get(f"h{i}/mlp/c_fc/w"))
        block.mlp_down.kernel.assign(get(f"h{i}/mlp/c_proj/w"))
    model.final_norm.scale.assign(get("ln_f/g"))
    model.head.kernel.assign(get("wtet").T)


def test_classification_loss_and_accuracy(oracle, request, shared):
    import tensorflow as tf

    model, inputs, expected = oracle
    name = request.node.callspec.params["oracle"]
    reader = tf.train.load_checkpoint(
        str(shared / "oracle" / name / "model.ckpt-1000")
    )
    head = reader.get_tensor("model/clf/wclf")
    classifier = igpt_keras.IGPTClassifier(model, len(head))
    classifier.class_head.kernel.assign(head.T)
    classifier.compile()
    results = classifier.evaluate(
        inputs, expected["y"], return_dict=True, verbose=0
    )
    joint = expected["gen_loss"] + expected["clf_loss"]
    assert abs(results["loss"] - joint) < 1e-5
    (accuracy,) = (v for k, v in results.items() if "accuracy" in k)
    # The released code reports percent.
    assert abs(100 * accuracy - expected["accuracy"]) < 1e-4


def test_logits(oracle):
    model, inputs, expected = oracle
    np.testing.assert_allclose(
        array(model(inputs)), expected["gen_logits"], atol=1e-5
    )


def test_loss(oracle):
    model, inputs, expected = oracle
    model.compile()
    loss = model.evaluate(inputs, expected["x"], verbose=0)
    assert abs(loss - expected["gen_loss"]) < 1e-5


def test_features(oracle):
    model, inputs, expected = oracle
    features, labels = igpt_keras.extract_features(
        model, [(inputs, expected["y"])]
    )
    np.testing.assert_array_equal(labels, expected["y"])
    for layer in range(model.num_layers + 1):
        # Norms in order of execution: ln_1 and ln_2 of each block, then ln_f.
        norm = expected[f"norm{2 * layer:03d}_{_name(model, layer)}_out"]
        np.testing.assert_allclose(
            features[layer], norm.mean(axis=1), atol=1e-5
        )


def _name(model, layer):
    return "ln_f" if layer == model.num_layers else "ln_1"
