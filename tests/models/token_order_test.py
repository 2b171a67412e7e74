"""Models that predict the tokens of an image in another order than raster."""

import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras
from igpt_keras import codec
from igpt_keras.codec.exact_network import ExactNetwork
from igpt_keras.layers import SelfAttention
from igpt_keras.layers import TransformerBlock
from igpt_keras.layers import pixel_order
from igpt_keras.models.decoding import decode
from igpt_keras.models.resize_positions import resize_positions
from igpt_keras.reports.drawings import filling
from igpt_keras.reports.pictures import first_half

ORDERS = ["columns", "reversed", "spiral", "z_curve", "random:1"]
register = keras.saving.register_keras_serializable(package="order_test")


def cases(*orders):
    """Orders as parameters; JAX, which compiles for each, runs three."""
    each = ("raster", "columns", "spiral")
    return [
        pytest.param(
            order, marks=[pytest.mark.each_backend] if order in each else []
        )
        for order in orders
    ]


def one_layer(order, **overrides):
    return tiny.model(order=order, num_layers=1, **overrides)


def expected_of(model, token_ids, mask=None):
    """Logits and features of the reference, which knows no order."""
    order = pixel_order(model.order, model.sequence_length)
    weights = tiny.numpy_weights(model)
    weights["wpe"] = weights["wpe"][order]
    mask = None if mask is None else mask[:, order]
    logits, features = reference.forward(weights, token_ids[:, order], mask)
    raster = np.empty_like(logits)
    raster[:, order] = logits
    return raster, features


@pytest.mark.parametrize("order", cases(*ORDERS))
def test_logits_are_those_of_permuted_tokens_and_positions(order):
    model, token_ids = tiny.model(order=order), tiny.token_ids()
    logits, features = expected_of(model, token_ids)
    np.testing.assert_allclose(array(model(token_ids)), logits, atol=1e-4)
    if order == "spiral":
        labels = np.zeros(4, "int32")
        found, _ = igpt_keras.extract_features(model, [(token_ids, labels)])
        np.testing.assert_allclose(found, features, atol=1e-4)


@pytest.mark.parametrize("order", cases("raster", *ORDERS))
def test_a_token_moves_those_after_it_in_the_order(order):
    model, token_ids = one_layer(order), tiny.token_ids()
    places = pixel_order(order, 16)
    before = array(model(token_ids))
    for position in (0, 6, 15):
        changed = token_ids.copy()
        place = places[position]
        changed[:, place] = (changed[:, place] + 1) % 11
        moved = np.abs(array(model(changed)) - before).max(axis=(0, 2))[places]
        assert (moved[: position + 1] == 0).all()
        assert (moved[position + 1 :] > 0).all()


def test_conditionals_make_a_distribution():
    """Of all 2x2 images of two colours, whatever the order."""
    images = np.indices((2,) * 4).reshape(4, 16).T.astype("int32")
    found = {}
    for order in ("raster", *ORDERS):
        model = tiny.model(
            order=order, vocabulary_size=2, sequence_length=4, num_layers=1
        )
        nats = reference.nats(array(model(images)).astype("float64"), images)
        found[order] = np.exp(-nats.sum(axis=1))
        assert abs(found[order].sum() - 1) < 1e-5
        # The codec's, of which another decoder makes the same images.
        network = ExactNetwork(model)
        network.begin(16)
        places, total, previous = pixel_order(order, 4), 1.0, None
        for place in places:
            shares = network.next(previous)
            shares /= shares.sum(axis=1, keepdims=True)
            previous = images[:, place]
            total = total * shares[np.arange(16), previous]
        np.testing.assert_allclose(total, found[order], rtol=1e-3)
    assert np.abs(found["raster"] - found["columns"]).max() > 1e-3


@pytest.mark.parametrize("order", cases(*ORDERS))
def test_cached_logits_equal_the_full_forward_pass(order):
    model, token_ids = one_layer(order), tiny.token_ids()
    expected = array(model(token_ids))
    caches = [(np.zeros((4, 3, 16, 5), "float32"),) * 2]
    seen = np.full_like(token_ids, 10)
    for position, place in enumerate(pixel_order(order, 16)):
        logits, caches = decode(model, seen, caches, position)
        found = array(logits)[:, 0]
        np.testing.assert_allclose(found, expected[:, place], atol=1e-4)
        seen[:, place] = token_ids[:, place]


def test_samples_go_on_from_what_comes_first():
    model, prompt = one_layer("columns"), tiny.token_ids()
    left = np.tile([True, True, False, False], 4)
    best = igpt_keras.sample(model, 4, prompt, temperature=0, given=left)
    np.testing.assert_array_equal(best[:, left], prompt[:, left])
    expected = array(model(best)).argmax(axis=-1)
    np.testing.assert_array_equal(best[:, ~left], expected[:, ~left])
    # What is not given is not read.
    hidden = np.where(left, prompt, -7)
    again = igpt_keras.sample(model, 4, hidden, temperature=0, given=left)
    np.testing.assert_array_equal(again, best)
    # More of some images than of others.
    given = np.arange(16) < np.array([2, 5, 5, 9])[:, None]
    given[:, pixel_order("columns", 16)] = given.copy()
    found = igpt_keras.sample(model, 4, prompt, temperature=0, given=given)
    np.testing.assert_array_equal(found[given], prompt[given])
    expected = array(model(found)).argmax(axis=-1)
    np.testing.assert_array_equal(found[~given], expected[~given])


def test_prompts_that_the_order_does_not_allow():
    model, prompt = tiny.model(order="columns"), tiny.token_ids()
    with pytest.raises(ValueError) as error:
        igpt_keras.sample(model, 4, prompt[:, :8])
    for words in (
        "'columns' draws columns from the left",
        "row 2, column 0 is not given",
        "row 1, column 3 is",
    ):
        assert words in str(error.value)
    sample = igpt_keras.sample
    for given in (np.ones(15, "bool"), np.ones(16, "int32"), np.ones((3, 16))):
        with pytest.raises(ValueError, match="given must be bool of shape"):
            sample(model, 4, prompt, given=given)
    with pytest.raises(ValueError, match="of shape .4, 8"):
        sample(model, 4, prompt[:, :8], given=np.ones(16, "bool"))
    with pytest.raises(ValueError, match="there is no prompt"):
        sample(model, 4, given=np.ones(16, "bool"))


@pytest.mark.parametrize("order, keep", [("columns", "left"), ("spiral", 0.5)])
def test_completions(order, keep):
    """A left half is one prompt of columns; another order draws around."""
    model, tokenizer = one_layer(order), tiny.grey_palette()
    images = array(tokenizer.detokenize(tiny.token_ids(batch=2)))
    found = igpt_keras.complete(model, tokenizer, images, keep, 1, 0.0)[:, 0]
    given = igpt_keras.generation.given_tokens(keep, 4)
    np.testing.assert_array_equal(found[:, given], images[:, given])
    token_ids = array(tokenizer(found))
    best = expected_of(model, token_ids)[0].argmax(axis=-1)
    drawn = ~given.reshape(-1)
    np.testing.assert_array_equal(token_ids[:, drawn], best[:, drawn])
    prompts = {"columns": 1, "spiral": 2}
    assert len(model.__dict__["_samplers"]) == prompts[order]
    # Half of the order is shown as given.
    if order == "columns":
        half = first_half(model)
        np.testing.assert_array_equal(half, given)
    frames = filling(
        found, np.zeros((4, 4), "bool"), model.embedding.permutation
    )
    shown = frames[4][0, :, :, 0] == found[0, :, :, 0]
    assert shown.flat[pixel_order(order, 16)[:4]].all()


def test_bert_does_not_depend_on_the_order():
    """Section 2.1: with attention both ways a permutation is a name."""
    token_ids, mask = tiny.token_ids(), tiny.mask()
    losses = {"bert": [], "autoregressive": []}
    for order in ("raster", *ORDERS):
        for objective, found in losses.items():
            model = tiny.model(objective, order=order, num_layers=2)
            inputs = token_ids
            if objective == "bert":
                inputs = {"token_ids": token_ids, "mask": mask}
            model.compile()
            loss = model.compute_loss(inputs, token_ids, model(inputs))
            found.append(float(loss))
    np.testing.assert_allclose(losses["bert"], losses["bert"][0], rtol=1e-6)
    distances = np.abs(np.diff(np.sort(losses["autoregressive"])))
    assert distances.min() > 1e-4


def test_weights_of_tokens_are_in_raster_order():
    model, token_ids = one_layer("spiral"), tiny.token_ids()
    model.compile(keras.optimizers.SGD(0.1))
    weight = np.zeros((4, 16), "float32")
    weight[:, 6] = 16
    logits = model(token_ids)
    loss = model.compute_loss(token_ids, token_ids, logits, weight)
    nats = reference.nats(array(logits), token_ids)[:, 6]
    np.testing.assert_allclose(float(loss), nats.mean(), rtol=1e-5)
    # Training goes through both permutations.
    losses = [model.train_on_batch(token_ids) for _ in range(4)]
    assert losses[3] < losses[0] - 1e-3


def test_presets_and_files(tmp_path):
    model, token_ids = one_layer("z_curve"), tiny.token_ids()
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    for copy in (
        igpt_keras.IGPT.from_preset(tmp_path / "preset"),
        keras.saving.load_model(tmp_path / "model.keras", safe_mode=True),
    ):
        assert copy.order == "z_curve"
        expected = array(model(token_ids))
        np.testing.assert_array_equal(array(copy(token_ids)), expected)
    with pytest.raises(ValueError, match=r"\['order'\] cannot be changed"):
        igpt_keras.IGPT.from_preset(tmp_path / "preset", order="raster")
    # The table is one of places in the image.
    larger = igpt_keras.IGPT.from_preset(
        tmp_path / "preset", sequence_length=36, interpolate_positions=True
    )
    table = array(model.embedding.position_embedding)
    found = array(larger.embedding.position_embedding)
    np.testing.assert_allclose(found, resize_positions(table, 36), atol=1e-6)
    np.testing.assert_array_equal(
        larger.embedding.permutation, pixel_order("z_curve", 36)
    )
    with pytest.raises(ValueError, match="order='z_curve', and whatever reads"):
        igpt_keras.save_huggingface(model, tmp_path / "huggingface")
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="order='z_curve'"):
            igpt_keras.save_openai_checkpoint(model, tmp_path / "model.ckpt-1")
    with pytest.raises(ValueError, match="Unknown order 'zigzag'"):
        tiny.model(order="zigzag")
    with pytest.raises(ValueError, match="'spiral' is of square images, and 8"):
        tiny.model(order="spiral", sequence_length=8)


def test_a_file_of_tokens_is_of_its_order():
    tokenizer, token_ids = tiny.grey_palette(), tiny.token_ids()
    spiral = one_layer("spiral")
    content = codec.compress(spiral, tokenizer, token_ids)
    found = codec.decompress(spiral, tokenizer, content)
    np.testing.assert_array_equal(found, token_ids)
    raster = tiny.model(num_layers=1)
    with pytest.raises(ValueError, match="written with another model"):
        codec.decompress(raster, tokenizer, content)


def test_classes_are_read_off_an_ordered_model():
    model, token_ids = tiny.model(order="spiral"), tiny.token_ids()
    logits, features = expected_of(model, token_ids)
    for layer in (1, None):
        classifier = igpt_keras.IGPTClassifier(model, 3, head_layer=layer)
        head = np.random.default_rng(0).normal(size=(15, 3))
        classifier.class_head.kernel.assign(head)
        found = classifier(token_ids)
        expected = features[3 if layer is None else layer] @ head
        np.testing.assert_allclose(found["class_logits"], expected, atol=1e-4)
        np.testing.assert_allclose(found["token_logits"], logits, atol=1e-4)


class PlacedAttention(SelfAttention):
    """Queries of each place in the image differ."""

    def prepare(self, queries, keys, positions):
        turn = keras.ops.cast(1 + positions % 4, "float32")[:, None, None]
        return queries * turn, keys


@register
class PlacedBlock(TransformerBlock):
    attention_class = PlacedAttention


@register
class NarrowBlock(TransformerBlock):
    """Knows of no order."""

    def __init__(
        self,
        num_heads,
        num_layers,
        causal,
        dropout,
        depth_scaled_mlp,
        remat,
        dtype,
        name,
    ):
        super().__init__(num_heads, num_layers, causal, dtype=dtype, name=name)


@pytest.mark.parametrize("block", [PlacedBlock, NarrowBlock])
def test_own_blocks(block):
    """They are told places in the image, in one pass and step by step."""
    model, token_ids = one_layer("columns", block=block), tiny.token_ids()
    best = igpt_keras.sample(model, 4, temperature=0)
    expected = array(model(best)).argmax(axis=-1)
    np.testing.assert_array_equal(best, expected)
    if block is NarrowBlock:
        expected = array(one_layer("columns")(token_ids))
        np.testing.assert_array_equal(array(model(token_ids)), expected)
        return
    # As blocks of BERT they do not see the order, in spite of their places.
    mask = {"token_ids": token_ids, "mask": tiny.mask()}
    raster, columns = (
        array(one_layer(order, objective="bert", block=block)(mask))
        for order in ("raster", "columns")
    )
    np.testing.assert_allclose(columns, raster, atol=1e-4)


@pytest.mark.compiled
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="reads TensorFlow's graph"
)
def test_raster_order_costs_nothing():
    """Its one gather is the token embedding's."""
    import tensorflow as tf

    gathers = []
    for order in ("raster", "columns"):
        model = tiny.model(order=order, num_layers=1)
        graph = tf.function(model).get_concrete_function(
            tf.TensorSpec((4, 16), "int32")
        )
        kinds = [operation.type for operation in graph.graph.get_operations()]
        gathers.append(sum("Gather" in kind for kind in kinds))
    assert gathers[0] == 1 < gathers[1]
