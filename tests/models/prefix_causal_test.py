"""Models that see the first tokens of an image from both sides."""

import keras
import numpy as np
import pytest
import reference
import tiny
from keras import ops
from tiny import array

import igpt_keras
from igpt_keras import codec
from igpt_keras import evaluation
from igpt_keras.codec.exact_network import ExactNetwork
from igpt_keras.layers import SelfAttention
from igpt_keras.layers import TransformerBlock
from igpt_keras.layers import pixel_order
from igpt_keras.models.decoding import decode
from igpt_keras.models.decoding import prefill

LENGTHS = np.array([0, 5, 15, 16], "int32")


class NarrowAttention(SelfAttention):
    def prefill(self, inputs):
        return super().prefill(inputs)


class NarrowBlock(TransformerBlock):
    attention_class = NarrowAttention


def build(order="raster", num_layers=2, **overrides):
    return tiny.model(
        order=order,
        attention="prefix_causal",
        num_layers=num_layers,
        **overrides,
    )


def inputs_of(token_ids, prefix_length):
    lengths = np.zeros(len(token_ids), "int32") + prefix_length
    return {"token_ids": token_ids, "prefix_length": lengths}


def logits_of(model, token_ids, prefix_length):
    return array(model(inputs_of(token_ids, prefix_length)))


def expected_of(model, token_ids, prefix_length):
    """Logits in raster order and features, of the reference."""
    places = pixel_order(model.order, 16)
    weights = tiny.numpy_weights(model)
    weights["wpe"] = weights["wpe"][places]
    lengths = np.zeros(len(token_ids), int) + prefix_length
    found, features = reference.forward(
        weights, token_ids[:, places], prefix_length=lengths
    )
    logits = np.empty_like(found)
    logits[:, places] = found
    return logits, features


@pytest.mark.parametrize("order", ["raster", "spiral"])
def test_logits_and_loss_match_the_reference(order):
    model, token_ids = build(order), tiny.token_ids()
    logits, _ = expected_of(model, token_ids, LENGTHS)
    found = logits_of(model, token_ids, LENGTHS)
    np.testing.assert_allclose(found, logits, atol=1e-4)
    rank = np.argsort(pixel_order(order, 16))
    predicted = rank >= LENGTHS[:, None]
    model.compile(metrics=["accuracy"])
    # The image of which all is given counts as 0, as in BERT's loss.
    loss, accuracy = model.test_on_batch(inputs_of(token_ids, LENGTHS))
    expected = reference.bert_loss(logits, token_ids, predicted)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    right = (logits.argmax(-1) == token_ids)[predicted]
    np.testing.assert_allclose(accuracy, right.mean(), rtol=1e-5)


def test_no_prefix_is_causal_and_a_whole_one_no_mask():
    model, token_ids = build(), tiny.token_ids()
    plain = tiny.model(num_layers=2)
    np.testing.assert_allclose(
        logits_of(model, token_ids, 0), array(plain(token_ids)), atol=1e-5
    )
    weights = tiny.numpy_weights(model)
    everything = np.ones((16, 16), bool)
    # The last token is no input.
    for length in (15, 16):
        logits, features = expected_of(model, token_ids, length)
        x = np.concatenate(
            [
                np.broadcast_to(weights["sos"], (4, 1, 15)),
                weights["wte"][token_ids[:, :-1]],
            ],
            axis=1,
        )
        x, _ = reference.block(
            x + weights["wpe"], weights["blocks"][0], everything[None]
        )
        x, _ = reference.block(x, weights["blocks"][1], everything[None])
        x = reference.rms_norm(x, weights["ln_f"])
        np.testing.assert_allclose(x @ weights["head"], logits, atol=1e-8)
    found, _ = igpt_keras.extract_features(model, [(token_ids, np.arange(4))])
    np.testing.assert_allclose(found, features, atol=1e-4)
    grid = igpt_keras.probes.ProbeGrid(model, 4, [2], [1.0])
    grid.kernel.assign(np.random.default_rng(0).normal(size=(1, 1, 15, 4)))
    expected = features[2] @ array(grid.kernel)[0, 0]
    found = array(grid(token_ids))[:, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_token_moves_the_prefix_and_what_comes_after_it():
    model, token_ids = build("columns", num_layers=1), tiny.token_ids(1)
    order = pixel_order("columns", 16)
    before = logits_of(model, token_ids, 6)[0, order]
    for i in range(16):
        changed = token_ids.copy()
        changed[:, order[i]] = (changed[:, order[i]] + 1) % 11
        moved = np.abs(logits_of(model, changed, 6)[0, order] - before).max(-1)
        # Position 6, which predicts the first token after it, holds the last.
        first = 0 if i < 6 else i + 1
        assert (moved[:first] == 0).all() and (moved[first:] > 0).all(), i


def test_cached_logits_equal_the_full_pass_with_that_prefix():
    model, token_ids = build("spiral", num_layers=2), tiny.token_ids()
    order = pixel_order("spiral", 16)
    for length in (0, 6):
        expected = logits_of(model, token_ids, length)[:, order]
        seen = np.full_like(token_ids, 10)
        seen[:, order[:length]] = token_ids[:, order[:length]]
        caches = prefill(model, seen, length + 1, np.full(4, length, "int32"))
        rest = ((0, 0), (0, 0), (0, 15 - length), (0, 0))
        caches = [tuple(np.pad(array(x), rest) for x in c) for c in caches]
        for i in range(length, 16):
            logits, caches = decode(model, seen, caches, i)
            found = array(logits)[:, 0]
            np.testing.assert_allclose(found, expected[:, i], atol=1e-4)
            seen[:, order[i]] = token_ids[:, order[i]]


def test_a_prompt_is_the_prefix_of_its_image():
    model, prompt = build("columns"), tiny.token_ids(3)
    # None of one image, six tokens of another, all of the third.
    counts = np.array([0, 6, 16])
    given = np.argsort(pixel_order("columns", 16)) < counts[:, None]
    found = igpt_keras.sample(model, 3, prompt, temperature=0, given=given)
    np.testing.assert_array_equal(found[given], prompt[given])
    logits, _ = expected_of(model, found, counts)
    np.testing.assert_array_equal(found[~given], logits.argmax(-1)[~given])


def test_what_an_image_costs_has_no_prefix():
    model, token_ids = build(), tiny.token_ids()
    nats = reference.nats(expected_of(model, token_ids, 0)[0], token_ids)
    found = evaluation.token_losses(model, token_ids)[0]
    np.testing.assert_allclose(found, nats.mean(1), rtol=1e-4)
    surprise = evaluation.token_surprise(model, token_ids)
    np.testing.assert_allclose(surprise, nats, atol=1e-4)
    tokenizer = tiny.grey_palette()
    content = codec.compress(model, tokenizer, token_ids)
    found = codec.decompress(model, tokenizer, content)
    np.testing.assert_array_equal(found, token_ids)
    network = ExactNetwork(model)
    network.begin(4)
    network.next()
    shares = network.next(token_ids[:, 0])
    shares = shares / shares.sum(-1, keepdims=True)
    found = -np.log(np.take_along_axis(shares, token_ids[:, 1:2], -1))[:, 0]
    np.testing.assert_allclose(found, nats[:, 1], atol=1e-3)


def test_classes_are_of_whole_images_and_the_loss_of_what_follows():
    model, token_ids = build(dropout=0.0), tiny.token_ids()
    for head_layer in (None, 1):
        classifier = igpt_keras.IGPTClassifier(model, 3, head_layer=head_layer)
        head = np.random.default_rng(0).normal(size=(15, 3))
        classifier.class_head.kernel.assign(head)
        outputs = classifier(inputs_of(token_ids, LENGTHS))
        _, features = expected_of(model, token_ids, 16)
        found = array(outputs["class_logits"])
        layer = 2 if head_layer is None else head_layer
        np.testing.assert_allclose(found, features[layer] @ head, atol=1e-3)
        logits, _ = expected_of(model, token_ids, LENGTHS)
        found = array(outputs["token_logits"])
        np.testing.assert_allclose(found, logits, atol=1e-4)
    assert len(classifier.trainable_variables) == len(model.weights) + 1
    labels = np.array([0, 1, 2, 0])
    classifier.compile()
    loss = classifier.compute_loss(
        inputs_of(token_ids, LENGTHS), labels, outputs
    )
    predicted = np.arange(16) >= LENGTHS[:, None]
    generative = reference.bert_loss(logits, token_ids, predicted)
    classes = reference.log_softmax(features[1] @ head)
    expected = generative - classes[np.arange(4), labels].mean()
    np.testing.assert_allclose(float(loss), expected, rtol=1e-4)
    scores = evaluation.class_scores(classifier, token_ids, labels)
    right = (classes.argmax(-1) == labels).mean()
    assert scores["accuracy"] == right


def test_learns_also_with_remat():
    token_ids = tiny.token_ids()
    losses = []
    for remat in (False, True):
        model = build(num_layers=1, remat=remat)
        model.compile(keras.optimizers.SGD(0.1))
        batch = inputs_of(token_ids, [0, 5, 9, 15])
        losses.append([model.train_on_batch(batch) for _ in range(4)])
    assert losses[0][3] < losses[0][0] - 1e-2
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_prefix_presets_and_files(tmp_path):
    model, token_ids = build("spiral"), tiny.token_ids()
    model.save_to_preset(tmp_path / "preset", tokenizer=tiny.grey_palette())
    copy, _ = igpt_keras.open_weights(tmp_path / "preset")
    assert (copy.order, copy.attention) == ("spiral", "prefix_causal")
    np.testing.assert_array_equal(
        logits_of(copy, token_ids, LENGTHS),
        logits_of(model, token_ids, LENGTHS),
    )
    for save in (
        igpt_keras.save_huggingface,
        igpt_keras.save_openai_checkpoint,
    ):
        with pytest.raises(ValueError, match="attention='prefix_causal', and"):
            save(build(), tmp_path / "other")


@pytest.mark.parametrize(
    "inputs, message",
    [
        (tiny.token_ids(), "draw_prefixes` draws lengths for training"),
        ({"token_ids": tiny.token_ids()}, r"received a dict of \['token_ids'"),
        (
            inputs_of(tiny.token_ids(), 17),
            r"prefix_length must be in \[0, 17\)",
        ),
    ],
)
def test_refuses_other_inputs(inputs, message):
    model = build(num_layers=1)
    model.compile()
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(inputs)
    if isinstance(inputs, dict) and len(inputs) == 2:
        tensors = {k: ops.convert_to_tensor(x) for k, x in inputs.items()}
        loss = model.compute_loss(tensors, y_pred=ops.zeros((4, 16, 11)))
        assert np.isnan(float(loss))


def test_refuses_blocks_that_know_no_prefix():
    with pytest.raises(ValueError, match="`prefill` of NarrowAtt.*no prefix"):
        build(block=NarrowBlock)
    with pytest.raises(ValueError, match="is none of.*objective='bert' has"):
        tiny.model("bert", attention="prefix_causal")
