"""A user's own block or model is never opened as another network."""

import json

import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras
from igpt_keras import evaluation
from igpt_keras.layers import SelfAttention
from igpt_keras.layers import TokenAndPositionEmbedding
from igpt_keras.layers import TransformerBlock
from igpt_keras.models.stable_names import stable_names

register = keras.saving.register_keras_serializable(package="own_network_test")


@register
class ReLUBlock(TransformerBlock):
    """`decode` follows: it has the activation of `call`."""

    def activation(self, x):
        return keras.ops.relu(x)


@register
class CallBlock(TransformerBlock):
    """`decode` is its parent's, and another function."""

    def call(self, inputs, training=False):
        x = inputs + self.attention(self.attention_norm(inputs))
        return x + self.mlp_down(keras.ops.relu(self.mlp_norm(x)))

    def build(self, input_shape):
        super().build(input_shape)
        self.mlp_down = keras.layers.Dense(input_shape[-1], name="down")
        self.mlp_down.build(input_shape)


class ReversedAttention(SelfAttention):
    def call(self, inputs):
        return super().call(inputs[:, ::-1])


@register
class ReLUModel(igpt_keras.IGPT):
    """Sets the block itself, where an argument's default would do."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, block=ReLUBlock, **kwargs)


@register
class ReversedBlock(TransformerBlock):
    attention_class = ReversedAttention


@register
class PlainKerasBlock(keras.layers.Layer):
    """Nothing of ours, layers without names, a bias, and no `decode`."""

    def __init__(self, num_heads, num_layers, causal, dtype, name, **kwargs):
        super().__init__(dtype=dtype, name=name)
        self.attention_norm = keras.layers.LayerNormalization()
        self.mix = keras.layers.MultiHeadAttention(num_heads, 5)
        self.layers = [keras.layers.Dense(15), keras.layers.Dense(15)]
        self.causal = causal

    def call(self, inputs):
        x = self.attention_norm(inputs)
        x = inputs + self.mix(x, x, use_causal_mask=self.causal)
        for layer in self.layers:
            x = x + layer(x)
        return x


@register
class OwnIGPT(igpt_keras.IGPT):
    """Another objective, with an argument of its own."""

    def __init__(self, smoothing=0.0, **kwargs):
        super().__init__(**kwargs)
        self.smoothing = smoothing

    def compute_loss(self, **arguments):
        loss = super().compute_loss(**arguments)
        logits = keras.ops.log_softmax(arguments["y_pred"])
        return loss - self.smoothing * keras.ops.mean(logits)

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


@register
class OwnClassifier(igpt_keras.IGPTClassifier):
    pass


def own_model(cls=igpt_keras.IGPT, **overrides):
    model = cls(**{**tiny.SIZE, **overrides})
    generator = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape) * 0.3)
    return model


def check_same(model, copy):
    assert type(copy) is type(model)
    token_ids = tiny.token_ids()
    expected = array(model(token_ids))
    np.testing.assert_array_equal(array(copy(token_ids)), expected)


BLOCKS = [ReLUBlock, CallBlock, PlainKerasBlock]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_ones_own_comes_back_from_every_format(block, tmp_path):
    model = own_model(block=block)
    plain = array(own_model()(tiny.token_ids()))
    assert np.abs(array(model(tiny.token_ids())) - plain).max() > 0.1
    model.save_to_preset(tmp_path / "preset")
    # Keras numbers the layers of the copy's blocks on from the model's.
    check_same(model, igpt_keras.IGPT.from_preset(tmp_path / "preset"))
    check_same(model, igpt_keras.open_weights(tmp_path / "preset")[0])
    model.save(tmp_path / "model.keras")
    check_same(model, keras.saving.load_model(tmp_path / "model.keras"))
    saves = [igpt_keras.save_huggingface]
    if keras.backend.backend() == "tensorflow":
        saves.append(igpt_keras.save_openai_checkpoint)
    for save in saves:
        with pytest.raises(ValueError, match="weights alone"):
            save(model, tmp_path / "other")
        classifier = igpt_keras.IGPTClassifier(model, 3)
        with pytest.raises(ValueError, match="weights alone"):
            save(classifier, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_class_of_ones_own_comes_back_with_its_arguments(tmp_path):
    model = own_model(OwnIGPT, smoothing=0.5, block=ReLUBlock)
    model.save_to_preset(tmp_path / "preset")
    for copy in (
        OwnIGPT.from_preset(tmp_path / "preset"),
        igpt_keras.IGPT.from_preset(tmp_path / "preset"),
        igpt_keras.open_weights(tmp_path / "preset")[0],
    ):
        check_same(model, copy)
        assert copy.smoothing == 0.5
    with pytest.raises(ValueError, match=r"\['smoothing'\] cannot be changed"):
        OwnIGPT.from_preset(tmp_path / "preset", smoothing=0.1)
    with pytest.raises(ValueError, match="weights alone"):
        igpt_keras.save_huggingface(own_model(OwnIGPT), tmp_path / "other")

    classifier = OwnClassifier(model, num_classes=3)
    classifier.save_to_preset(tmp_path / "classifier")
    opened, _ = igpt_keras.open_weights(tmp_path / "classifier")
    assert type(opened) is OwnClassifier and type(opened.igpt) is OwnIGPT


def test_a_plain_preset_says_nothing_of_classes_and_is_no_other(tmp_path):
    tiny.model().save_to_preset(tmp_path / "preset")
    manifest = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert not {"class", "block", "arguments"} & set(manifest["model"])
    with pytest.raises(ValueError, match="which is no OwnIGPT"):
        OwnIGPT.from_preset(tmp_path / "preset")


@pytest.mark.parametrize("key", ["class", "block"])
def test_refuses_what_is_not_registered_here(key, tmp_path):
    model = own_model(OwnIGPT, block=ReLUBlock)
    model.save_to_preset(tmp_path / "preset")
    path = tmp_path / "preset" / "config.json"
    manifest = json.loads(path.read_text())
    manifest["model"][key] = "os>system"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="'os>system', which is not regist"):
        igpt_keras.IGPT.from_preset(tmp_path / "preset")


def test_refuses_to_save_what_would_not_be_found(tmp_path):
    class Unregistered(TransformerBlock):
        pass

    class UnregisteredIGPT(igpt_keras.IGPT):
        pass

    for model in (
        own_model(block=Unregistered),
        own_model(UnregisteredIGPT),
        own_model(block=lambda *a, **k: TransformerBlock(*a, **k)),
    ):
        with pytest.raises(ValueError, match="is not registered, so that"):
            model.save_to_preset(tmp_path / "preset")
    patched = tiny.model()
    patched.blocks[1].mlp_up.activation = keras.ops.relu
    with pytest.raises(ValueError, match="activation of block_1 was replaced"):
        patched.save_to_preset(tmp_path / "preset")
    patched = tiny.model()
    patched.blocks[2].__class__ = ReLUBlock
    for save in (
        igpt_keras.IGPT.save_to_preset,
        igpt_keras.save_huggingface,
    ):
        with pytest.raises(ValueError, match="block_2 is a ReLUBlock"):
            save(patched, tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


def test_a_block_that_is_defined_again_is_still_saved(tmp_path):
    """As when a notebook's cell is run twice."""

    def define():
        class Again(ReLUBlock):
            pass

        return register(Again)

    model = own_model(block=define())
    define()
    model.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        array(copy(tiny.token_ids())), array(model(tiny.token_ids()))
    )


def test_frozen_weights_of_layers_without_names(tmp_path):
    model = own_model(block=PlainKerasBlock)
    model.blocks[1].layers[1].trainable = False
    model.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    for old, new in zip(model.weights, copy.weights, strict=True):
        assert old.trainable == new.trainable
    assert len(copy.trainable_weights) == len(copy.weights) - 2


def test_greedy_samples_are_the_networks_own():
    """Of the block that `decode` follows; the others are refused by name."""
    model = own_model(block=ReLUBlock)
    token_ids = igpt_keras.sample(model, num_samples=3, temperature=0)
    logits = array(model(token_ids))
    np.testing.assert_array_equal(logits.argmax(-1), token_ids)
    plain = own_model()
    assert (igpt_keras.sample(plain, 3, temperature=0) != token_ids).any()


@register
class DecodingBlock(CallBlock):
    """Decodes in its own way, and needs none of its attention's."""

    attention_class = ReversedAttention

    def prefill(self, inputs):
        attended = self.attention_norm(inputs)
        keys = self.attention.key(attended)
        return inputs, *2 * [keras.ops.transpose(keys, (0, 2, 1, 3))]

    def decode(self, inputs, keys, values, position):
        return inputs, keys, values


def test_sample_follows_a_decode_of_ones_own():
    model = own_model(block=DecodingBlock, num_layers=1)
    assert igpt_keras.sample(model, num_samples=1).shape == (1, 16)


class CallIGPT(igpt_keras.IGPT):
    def call(self, inputs, training=None, mask=None):
        return -super().call(inputs, training=training, mask=mask)


@pytest.mark.parametrize(
    "cls, block, message",
    [
        (igpt_keras.IGPT, CallBlock, "CallBlock has a `call` and no `prefill`"),
        (igpt_keras.IGPT, PlainKerasBlock, "PlainKerasBlock has a `call`"),
        (igpt_keras.IGPT, ReversedBlock, "ReversedAttention has a `call`"),
        (CallIGPT, TransformerBlock, "CallIGPT overrides `call`"),
    ],
)
def test_sample_refuses_what_decode_does_not_follow(cls, block, message):
    with pytest.raises(ValueError, match=message):
        igpt_keras.sample(own_model(cls, block=block), num_samples=1)


def test_losses_and_class_heads_refuse_what_they_do_not_follow():
    model = own_model(CallIGPT)
    token_ids = tiny.token_ids()
    for follow in (
        lambda: evaluation.token_losses(model, token_ids),
        lambda: igpt_keras.IGPTClassifier(model, 3),
        lambda: igpt_keras.extract_features(model, [(token_ids, [0] * 4)]),
    ):
        with pytest.raises(ValueError, match="CallIGPT overrides `call`"):
            follow()


@pytest.mark.parametrize("name", ["final_norm", "head"])
def test_sample_refuses_a_part_that_was_replaced(name):
    model = tiny.model()
    setattr(model, name, keras.layers.Dense(11))
    with pytest.raises(ValueError, match=f"`{name}` of .* is no layer"):
        igpt_keras.sample(model, num_samples=1)


def functional(embedding=None):
    """A model of our parts that is no `IGPT`, with its weights."""
    plain = tiny.model()
    size = {k: tiny.SIZE[k] for k in ("vocabulary_size", "sequence_length")}
    if embedding is None:
        embedding = TokenAndPositionEmbedding(*size.values(), 15)
    inputs = keras.Input((16,), dtype="int32")
    x = embedding(inputs)
    blocks = [TransformerBlock(3, 3, name=f"block_{i}") for i in range(3)]
    for block in blocks:
        x = block(x)
    final_norm = keras.layers.RMSNormalization(epsilon=1e-5)
    head = keras.layers.Dense(11, use_bias=False)
    model = keras.Model(inputs, head(final_norm(x)))
    model.embedding, model.blocks, model.head = embedding, blocks, head
    model.final_norm, model.hidden_dim = final_norm, 15
    for key, value in size.items():
        setattr(model, key, value)
    return model, plain


def test_sample_takes_what_decodes_and_is_no_igpt():
    model, plain = functional()
    model.set_weights(plain.get_weights())
    token_ids = tiny.token_ids()
    np.testing.assert_allclose(
        array(model(token_ids)), array(plain(token_ids)), atol=1e-4
    )
    for prompt in (None, token_ids[:, :7]):
        found, expected = (
            igpt_keras.sample(x, 4, prompt=prompt, seed=3)
            for x in (model, plain)
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "name", ["embedding", "blocks", "final_norm", "head", "sequence_length"]
)
def test_sample_names_the_part_that_is_missing(name):
    model, _ = functional()
    setattr(model, name, None)
    with pytest.raises(ValueError, match=f"this Functional has no `{name}`"):
        igpt_keras.sample(model, num_samples=1)


def test_sample_names_what_an_embedding_lacks():
    model, _ = functional(keras.layers.Embedding(11, 15))
    with pytest.raises(ValueError, match="`embedding` of .* has no `decode`"):
        igpt_keras.sample(model, num_samples=1)


@register
class GainIGPT(igpt_keras.IGPT):
    """Its argument is in no configuration."""

    def __init__(self, *args, gain=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = gain


@register
class GainChild(OwnIGPT):
    """Adds to the configuration, and leaves something out."""

    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize("cls", [GainIGPT, GainChild])
def test_an_argument_that_no_configuration_has_is_not_lost(cls, tmp_path):
    model = own_model(cls, gain=3.0)
    with pytest.raises(ValueError, match="'gain' is an argument of Gain"):
        model.save_to_preset(tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


@register
class GainClassifier(igpt_keras.IGPTClassifier):
    def __init__(self, *args, gain=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = gain


@pytest.mark.parametrize(
    "build",
    [
        lambda: own_model(GainIGPT, gain=3.0),
        lambda: GainClassifier(own_model(), 3, gain=3.0),
    ],
)
def test_keras_does_not_lose_it_either(build, tmp_path):
    with pytest.raises(ValueError, match="'gain' is an argument of Gain"):
        build().save(tmp_path / "model.keras")


def reversed_attention(block):
    block.attention.__class__ = ReversedAttention


def own_prepare(block):
    block.attention.prepare = lambda queries, keys, positions: (keys, queries)


def own_call(block):
    block.call = lambda inputs, **others: inputs


@pytest.mark.parametrize(
    "patch, message",
    [
        (reversed_attention, "attention of block_1 is a ReversedAttention"),
        (own_prepare, "`prepare` of attention was replaced"),
        (own_call, "`call` of block_1 was replaced"),
    ],
)
def test_objects_that_differ_from_their_class_are_not_saved(
    patch, message, tmp_path
):
    model = tiny.model()
    patch(model.blocks[1])
    for save in (model.save_to_preset, model_to_huggingface(model)):
        with pytest.raises(ValueError, match=message):
            save(tmp_path / "saved")


def model_to_huggingface(model):
    return lambda path: igpt_keras.save_huggingface(model, path)


def define(source):
    """A cell of a notebook, run."""
    names = {"__name__": "cell", "TransformerBlock": TransformerBlock}
    text = f"""
class CellBlock(TransformerBlock):
    def activation(self, x):
        return {source}
"""
    exec(text, names)
    return keras.saving.register_keras_serializable("cell")(names["CellBlock"])


def test_a_cell_that_was_edited_is_not_saved_as_the_new_one(tmp_path):
    model = own_model(block=define("x * 2.0"))
    define("x * 2.0")
    model.save_to_preset(tmp_path / "same")
    define("x * 3.0")
    with pytest.raises(ValueError, match="was defined again, and differently"):
        model.save_to_preset(tmp_path / "other")


CELL = """
def scaled_by(factor):
    class CellBlock({base}):
        scale = {attribute}
        sizes = {sizes}
        part = {part}

        def activation(self, x, s={default}, *, t={keyword}):
            return x * s * t * factor * self.scale
    return CellBlock
CellBlock = scaled_by({closed})
"""
FIRST = {
    "base": "TransformerBlock",
    "attribute": "1.0",
    "sizes": "(1, None)",
    "part": "float",
    "default": "1.0",
    "keyword": "1.0",
    "closed": "1.0",
}


@pytest.mark.parametrize(
    "edit",
    [
        {"base": "ReLUBlock"},
        {"attribute": "3.0"},
        {"sizes": "(2, None)"},
        {"part": "int"},
        {"default": "3.0"},
        {"keyword": "3.0"},
        {"closed": "3.0"},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_edited_value_is_not_saved_as_the_new_one(edit, tmp_path):
    def run(values):
        names = {
            "__name__": "cell",
            "TransformerBlock": TransformerBlock,
            "ReLUBlock": ReLUBlock,
        }
        exec(CELL.format(**values), names)
        package = keras.saving.register_keras_serializable("cell")
        return package(names["CellBlock"])

    model = own_model(block=run(FIRST))
    run(FIRST)
    model.save_to_preset(tmp_path / "same")
    run({**FIRST, **edit})
    with pytest.raises(ValueError, match="was defined again, and differently"):
        model.save_to_preset(tmp_path / "other")


def test_a_class_that_sets_its_arguments_itself_hears_how(tmp_path):
    ReLUModel(**tiny.SIZE).save_to_preset(tmp_path / "preset")
    with pytest.raises(
        ValueError, match="ReLUModel, which cannot be built"
    ) as e:
        igpt_keras.IGPT.from_preset(tmp_path / "preset")
    assert "take as an argument with that default" in str(e.value)


def test_squares_are_not_swallowed():
    """By a block that names no square_side, and is none of ours."""
    with pytest.raises(ValueError, match="takes no square_side"):
        own_model(block=PlainKerasBlock, attention="block_causal:2")


def test_sample_names_an_objective_that_is_not_its_own():
    model = tiny.model()
    model.objective = "diffusion"
    with pytest.raises(ValueError, match="of the objective 'diffusion'"):
        igpt_keras.sample(model, num_samples=1)


def test_a_block_without_decode_trains_and_is_probed():
    model = own_model(block=PlainKerasBlock)
    model.compile(keras.optimizers.Adam(1e-3))
    token_ids, labels = tiny.token_ids(30), np.arange(30) % 3
    data = [(token_ids, labels)]
    probe = igpt_keras.LinearProbe(data, data, verbose=0)
    model.fit(token_ids, token_ids, verbose=0, callbacks=[probe])
    assert len(probe.history[0]["accuracy"]) == 4
    logits = array(model(token_ids))
    assert model.evaluate(token_ids, token_ids, verbose=0) == pytest.approx(
        reference.nats(logits, token_ids).mean(), rel=1e-4
    )


@pytest.mark.parametrize("block", [3, "no>such", TransformerBlock(2, 1)])
def test_refuses_a_block_that_is_none(block):
    with pytest.raises(ValueError, match="block must be a class|'no>such'"):
        own_model(block=block)


def test_names_do_not_depend_on_what_was_built_before():
    paths = [
        "block_0/dense_4/kernel",
        "block_0/dense_4/bias",
        "block_0/dense_9/kernel",
        "block_1/dense_10/kernel",
        "block_1/norm/variable_2",
    ]
    assert stable_names(paths) == [
        "block_0/dense/kernel",
        "block_0/dense/bias",
        "block_0/dense_1/kernel",
        "block_1/dense/kernel",
        "block_1/norm/variable",
    ]
    model = tiny.model()
    paths = [v.path.partition("/")[2] for v in model.weights]
    with pytest.raises(ValueError, match="Two weights have the path"):
        stable_names(["block_0/a/kernel", *paths, "block_0/a/kernel"])
