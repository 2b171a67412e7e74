import json

import keras
import numpy as np
import pytest
from gradients import gradient
from keras import ops
from tiny import array

import igpt_keras
from igpt_keras.layers import FiniteScalarQuantizer
from igpt_keras.layers import VectorQuantizer
from igpt_keras.tokenizers import vq_vae_directory


def build(**arguments):
    sizes = {
        "input_resolution": 8,
        "model_resolution": 4,
        "vocabulary_size": 16,
    }
    return igpt_keras.VQVAE(**{**sizes, **arguments})


def pictures(count=12, side=8, seed=0):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (count, side // 4, side // 4, 3))
    return small.repeat(4, axis=1).repeat(4, axis=2).astype("uint8")


def codebook_state(vq_vae):
    return [array(v).copy() for v in vq_vae.quantizer.variables]


@pytest.mark.parametrize(
    "resolution, parameters, receptive_field",
    [(96, 166_531, 16), (192, 297_731, 34)],
)
def test_sizes_of_the_paper(resolution, parameters, receptive_field):
    vq_vae = igpt_keras.VQVAE(input_resolution=resolution)
    autoencoder = vq_vae.encoder.count_params() + vq_vae.decoder.count_params()
    assert autoencoder == parameters
    if resolution == 96:
        assert autoencoder < 200_000
    assert tuple(vq_vae.quantizer.codebook.shape) == (4096, 64)
    images = np.random.default_rng(0).normal(
        size=(4, resolution, resolution, 3)
    )

    def code(x):
        return ops.sum(vq_vae.encoder(x)[:, 24, 24])

    seen = np.abs(gradient(code, images)).sum(axis=(0, 3)) > 0
    for axis in (0, 1):
        where = np.flatnonzero(seen.any(axis=axis))
        assert where[-1] - where[0] + 1 == receptive_field
    token_ids = vq_vae.encode(np.zeros((1, resolution, resolution, 3), "uint8"))
    assert tuple(token_ids.shape) == (1, 48, 48)
    assert tuple(vq_vae.decode(token_ids).shape) == (
        1,
        resolution,
        resolution,
        3,
    )


@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error"])
def test_loss_is_of_data_with_variance_one(loss):
    images = pictures()
    vq_vae = build()
    vq_vae.compile(loss=loss)
    vq_vae.adapt(images)
    pixels = images / 127.5 - 1
    np.testing.assert_allclose(
        array(vq_vae.data_mean), pixels.mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        array(vq_vae.data_variance), pixels.var(), rtol=1e-5
    )
    normal = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(
        array(vq_vae.normalize(images)), normal, atol=1e-5
    )

    outputs = vq_vae(images)
    error = array(outputs["reconstructions"]) - normal
    encodings = array(vq_vae.encoder(normal.astype("float32")))
    codes = array(vq_vae.quantizer.lookup(outputs["token_ids"]))
    expected = np.square(error).mean()
    if loss == "mean_absolute_error":
        expected = np.abs(error).mean()
    expected += 0.02 * np.square(encodings - codes).mean()
    found = vq_vae.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(
        found["reconstruction_error"], np.square(error).mean(), rtol=1e-4
    )
    counts = np.bincount(array(outputs["token_ids"]).ravel(), minlength=16)
    share = counts[counts > 0] / counts.sum()
    np.testing.assert_allclose(
        found["perplexity"], np.exp(-(share * np.log(share)).sum()), rtol=1e-4
    )
    assert found["active_codes"] == (counts > 0).sum()
    assert vq_vae.optimizer.get_config()["learning_rate"] == pytest.approx(1e-4)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "quantizer", ["ema", pytest.param("fsq", marks=pytest.mark.large)]
)
def test_fit_learns_and_validation_moves_nothing(quantizer):
    images = pictures(64)
    others = pictures(16, seed=1)
    arguments = {}
    if quantizer == "fsq":
        arguments = {"quantizer": FiniteScalarQuantizer((4, 4))}
    vq_vae = build(**arguments)
    vq_vae.compile(keras.optimizers.Adam(3e-3))
    history = vq_vae.fit(
        images, validation_data=(others, None), epochs=25, verbose=0
    ).history
    # The data's variance is 1.
    assert history["val_reconstruction_error"][-1] < 0.5
    assert history["val_loss"][-1] < history["val_loss"][0]
    before = codebook_state(vq_vae)
    vq_vae.evaluate(others, verbose=0)
    outputs = vq_vae.predict(others, verbose=0)
    for variable, value in zip(vq_vae.quantizer.variables, before):
        np.testing.assert_array_equal(array(variable), value)
    assert outputs["reconstructions"].shape == others.shape
    np.testing.assert_array_equal(
        outputs["token_ids"], array(vq_vae.encode(others))
    )
    # Pixels out of codes are those that the loss is of.
    pixels = outputs["reconstructions"] * np.sqrt(array(vq_vae.data_variance))
    pixels = 127.5 * (pixels + array(vq_vae.data_mean) + 1)
    decoded = array(vq_vae.decode(outputs["token_ids"]))
    assert decoded.dtype == "uint8"
    assert np.abs(decoded - np.clip(pixels, 0, 255)).max() < 0.51
    if quantizer == "ema":
        vq_vae.fit(images, verbose=0)
        assert (array(vq_vae.quantizer.codebook) != before[0]).any()


def test_trains_on_datasets_with_labels():
    tf = pytest.importorskip("tensorflow")
    images = pictures()
    results = []
    for data, batch_size in (
        (images, 6),
        (tf.data.Dataset.from_tensor_slices(images).batch(6), None),
        (
            tf.data.Dataset.from_tensor_slices((images, np.arange(12))).batch(
                6
            ),
            None,
        ),
    ):
        keras.utils.set_random_seed(0)
        vq_vae = build(quantizer=VectorQuantizer(16, 64, seed=0))
        vq_vae.compile()
        history = vq_vae.fit(
            data, batch_size=batch_size, shuffle=False, verbose=0
        )
        results.append(history.history["loss"][0])
    np.testing.assert_allclose(results, results[0], rtol=1e-5)


def test_dtype_policy_changes_no_token():
    images = pictures()
    vq_vae = build()
    expected = array(vq_vae.encode(images))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        copy = build()
        copy.set_weights(vq_vae.get_weights())
        copy.compile()
        np.testing.assert_array_equal(array(copy.encode(images)), expected)
        found = copy.predict(images, verbose=0)["token_ids"]
        np.testing.assert_array_equal(found, expected)
        copy.fit(images, verbose=0)
        # Asked for, it is used.
        lower = build(dtype="mixed_bfloat16")
        lower.compile()
        lower.fit(images, verbose=0)
        assert lower.encoder.layers[0].compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


def test_quantizer_built_by_fit_starts_as_one_built_before():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.quantizer = VectorQuantizer(16, 3, revive=False, seed=0)

        def call(self, inputs, training=False):
            return self.quantizer(inputs, training=training)[0]

    inputs = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    codebooks = []
    for first in (True, False):
        model = Model()
        if first:
            model.quantizer.build((None, 4, 4, 3))
        model.compile(keras.optimizers.SGD(0.0), loss="mean_squared_error")
        model.fit(inputs, inputs, verbose=0)
        codebooks.append(array(model.quantizer.codebook))
    np.testing.assert_allclose(*codebooks, atol=1e-6)


def test_frozen_quantizer_stays():
    vq_vae = build()
    vq_vae.quantizer.trainable = False
    vq_vae.compile()
    before = array(vq_vae.quantizer.codebook)
    vq_vae.fit(pictures(), verbose=0)
    np.testing.assert_array_equal(array(vq_vae.quantizer.codebook), before)


def test_fingerprint_knows_the_levels():
    fingerprints = set()
    for levels in ((4, 4), (2, 8)):
        keras.utils.set_random_seed(0)
        vq_vae = build(quantizer=FiniteScalarQuantizer(levels))
        fingerprints.add(vq_vae_directory.fingerprint(vq_vae))
    assert len(fingerprints) == 2


def test_later_batches_are_checked():
    vq_vae = build()
    vq_vae.compile()
    vq_vae.fit(pictures(), verbose=0)
    before = codebook_state(vq_vae)
    for wrong in (pictures() / np.float32(255), NAN):
        with pytest.raises(ValueError, match="images"):
            vq_vae.train_on_batch(wrong)
        with pytest.raises(ValueError, match="images"):
            vq_vae.predict(wrong, verbose=0)
    for variable, value in zip(vq_vae.quantizer.variables, before):
        np.testing.assert_array_equal(array(variable), value)
    with pytest.raises(ValueError, match="metrics are the VQ-VAE's own"):
        vq_vae.compile(metrics=["mse"])


def test_data_is_measured_once():
    vq_vae = build()
    vq_vae.compile()
    vq_vae.fit(pictures(), verbose=0)
    mean = array(vq_vae.data_mean)
    assert array(vq_vae.images_measured) == 12
    vq_vae.fit(pictures(seed=5), verbose=0)
    assert array(vq_vae.data_mean) == mean


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"input_resolution": 9}, "is not 2, 4, 8"),
        ({"input_resolution": 12}, "is not 2, 4, 8"),
        ({"input_resolution": 4}, "is not 2, 4, 8"),
        ({"input_resolution": 8.0}, "input_resolution must be a positive int"),
        ({"vocabulary_size": True}, "vocabulary_size must be a positive int"),
        ({"vocabulary_size": 16.0}, "vocabulary_size must be a positive int"),
        ({"model_resolution": 0}, "model_resolution must be a positive int"),
        ({"vocabulary_size": 0}, "vocabulary_size must be a positive int"),
        ({"quantizer": FiniteScalarQuantizer((3, 3))}, "Pass the same number"),
        ({"quantizer": "ema"}, "quantizer must be a layer, .*received 'ema'"),
    ],
)
def test_refuses_bad_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


NAN = np.full((2, 8, 8, 3), np.nan, "float32")


@pytest.mark.parametrize(
    "images, message",
    [
        (NAN, "NaN or infinity"),
        (pictures() / np.float32(255), "received float32"),
        (pictures().astype("int32"), "received int32"),
        (pictures()[..., :1], "Greyscale"),
        (pictures()[0], "Add a batch axis"),
        (pictures()[:, :6], "Crop to a square"),
        (pictures(side=12), "12x12 and this VQ-VAE takes 8x8"),
        (np.full((4, 8, 8, 3), 7, "uint8"), "4 images are 7: their variance"),
        (pictures() // 128, "0 and 1, expected 0 to 255"),
        (pictures(0), "no images"),
        (iter([pictures()]), "An iterator can be read once"),
    ],
)
def test_bad_images_leave_everything(images, message):
    vq_vae = build()
    vq_vae.compile()
    before = [array(v).copy() for v in vq_vae.variables]
    with pytest.raises(ValueError, match=message):
        vq_vae.fit(images, verbose=0)
    for variable, value in zip(vq_vae.variables, before):
        np.testing.assert_array_equal(array(variable), value)


@pytest.mark.parametrize(
    "method", ["evaluate", "train_on_batch", "test_on_batch"]
)
def test_losses_without_a_measured_variance_are_refused(method):
    vq_vae = build()
    vq_vae.compile()
    with pytest.raises(ValueError, match="Call `adapt.images.` first"):
        getattr(vq_vae, method)(pictures())
    vq_vae.adapt(pictures())
    getattr(vq_vae, method)(pictures())


@pytest.mark.each_backend
def test_lists_of_images_are_refused():
    vq_vae = build()
    images = list(pictures())
    for take in (vq_vae.encode, igpt_keras.VQVAETokenizer(vq_vae)):
        with pytest.raises(ValueError, match="images must be one array"):
            take(images)


@pytest.mark.each_backend
def test_nothing_to_fit_is_refused():
    vq_vae = build()
    vq_vae.compile()
    with pytest.raises(ValueError, match="Expected an array of images"):
        vq_vae.fit()


@pytest.mark.each_backend
@pytest.mark.parametrize(
    "token_ids, message",
    [
        (np.full((1, 4, 4), 16), "must be in .0, 16., received 16 to 16"),
        (np.zeros((1, 4, 4)), "must be integers, received float64"),
        (np.zeros((1, 3, 5), int), r"shape \(B, 4, 4\), received \(1, 3, 5\)"),
        (np.zeros((1, 16), int), r"shape \(B, 4, 4\), received"),
        ([[[0] * 4] * 4], "must be an array, received a list"),
    ],
)
def test_codes_that_are_none_are_refused(token_ids, message):
    with pytest.raises(ValueError, match=message):
        build().decode(token_ids)


@pytest.mark.parametrize("kind", ["ema", "fsq"])
def test_saved_and_opened(kind, tmp_path):
    arguments = {}
    if kind == "fsq":
        arguments = {"quantizer": FiniteScalarQuantizer((4, 4))}
    images = pictures()
    vq_vae = build(**arguments)
    vq_vae.compile(keras.optimizers.Adam(1e-2))
    vq_vae.fit(images, verbose=0)
    build(**arguments).save(tmp_path / "not_compiled.keras")
    keras.saving.load_model(tmp_path / "not_compiled.keras", safe_mode=True)
    vq_vae.save(tmp_path / "model.keras")
    vq_vae.save_to_preset(tmp_path / "preset")
    vq_vae.save_to_preset(tmp_path / "preset")
    assert sorted(path.name for path in (tmp_path / "preset").iterdir()) == [
        "vq_vae.json",
        "vq_vae.safetensors",
    ]
    for copy in (
        keras.saving.load_model(tmp_path / "model.keras", safe_mode=True),
        igpt_keras.VQVAE.from_preset(tmp_path / "preset"),
    ):
        for weight, other in zip(vq_vae.weights, copy.weights):
            np.testing.assert_array_equal(array(weight), array(other))
        np.testing.assert_array_equal(
            array(copy.encode(images)), array(vq_vae.encode(images))
        )
        fingerprint = vq_vae_directory.fingerprint
        assert fingerprint(copy) == fingerprint(vq_vae)
    copy.decoder.layers[0].bias.assign_add(np.ones(64, "float32"))
    assert fingerprint(copy) != fingerprint(vq_vae)


def test_takes_integers_of_numpy(tmp_path):
    quantizer = VectorQuantizer(np.int64(16), np.int64(8))
    vq_vae = build(
        input_resolution=np.int32(8),
        model_resolution=np.int64(4),
        vocabulary_size=np.arange(16).max() + 1,
        quantizer=quantizer,
    )
    json.dumps(vq_vae.get_config())
    vq_vae.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.VQVAE.from_preset(tmp_path / "preset")
    assert copy.get_config()["vocabulary_size"] == 16


def test_damaged_presets_are_refused(tmp_path):
    directory = tmp_path / "preset"

    def refused(message):
        with pytest.raises(ValueError, match=message):
            igpt_keras.VQVAE.from_preset(directory)

    refused("No VQ-VAE at")
    vq_vae = build()
    vq_vae.save_to_preset(directory)
    config, weights = (
        directory / "vq_vae.json",
        directory / "vq_vae.safetensors",
    )
    manifest, whole = json.loads(config.read_text()), weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0?")
    refused("its sha256 is not the one in")
    weights.unlink()
    refused("it is incomplete")
    weights.write_bytes(whole)
    for change, message in (
        ({"format": 9}, "has VQ-VAE format 9"),
        ({"vq_vae": {**manifest["vq_vae"], "model_resolution": 2}}, "weights"),
        ({"quantizer": {"class": "Lambda"}}, "is damaged"),
        ({"sha256": None}, "its sha256"),
        ({"vq_vae": []}, "is damaged"),
    ):
        config.write_text(json.dumps({**manifest, **change}))
        refused(message)
    config.write_text("{")
    refused("is damaged")
    vq_vae.decoder.layers[0].bias.assign(np.full(64, np.nan))
    with pytest.raises(ValueError, match="not finite"):
        vq_vae.save_to_preset(directory)
    assert config.read_text() == "{"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="thesis.txt"):
        build().save_to_preset(tmp_path / "other")
