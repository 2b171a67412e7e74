"""What `fit` and its like of a VQ-VAE take, and what they refuse."""

import keras
import numpy as np
import pytest
from tiny import array

import igpt_keras
from igpt_keras.layers import VectorQuantizer


def build():
    keras.utils.set_random_seed(0)
    vq_vae = igpt_keras.VQVAE(8, 4, 16, VectorQuantizer(16, 8, seed=0))
    vq_vae.compile()
    vq_vae.adapt(IMAGES)
    return vq_vae


def pictures(count=12, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 8, 8, 3)).astype("uint8")


IMAGES = pictures()
LABELS = np.zeros(12)
WEIGHTS = np.linspace(0, 1, 12).astype("float32")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return tuple(x[6 * i : 6 * i + 6] for x in (IMAGES, LABELS, WEIGHTS))


def generator(*arrays):
    for i in (0, 6):
        yield tuple(x[i : i + 6] for x in arrays)


def weighted_dataset():
    tf = pytest.importorskip("tensorflow")
    arrays = (IMAGES, LABELS, WEIGHTS)
    return tf.data.Dataset.from_tensor_slices(arrays).batch(6)


@pytest.mark.parametrize(
    "refused",
    [
        lambda m: m.fit(IMAGES, sample_weight=WEIGHTS),
        lambda m: m.fit(IMAGES, LABELS, sample_weight=WEIGHTS),
        lambda m: m.fit(IMAGES, LABELS, class_weight={0: 2.0}),
        lambda m: m.fit(Batches()),
        lambda m: m.fit(generator(IMAGES, LABELS, WEIGHTS)),
        lambda m: m.fit(weighted_dataset()),
        lambda m: m.fit(IMAGES, validation_data=(IMAGES, LABELS, WEIGHTS)),
        lambda m: m.fit(IMAGES, validation_data=weighted_dataset()),
        lambda m: m.evaluate(IMAGES, sample_weight=WEIGHTS),
        lambda m: m.train_on_batch(IMAGES, None, WEIGHTS),
        lambda m: m.train_on_batch(IMAGES, LABELS, class_weight={0: 2.0}),
        lambda m: m.test_on_batch(IMAGES, sample_weight=WEIGHTS),
    ],
)
def test_weights_of_images_are_refused(refused):
    """Keras drops them without targets, and the codebook never saw them."""
    vq_vae = build()
    before = [array(v).copy() for v in vq_vae.variables]
    with pytest.raises(ValueError, match="_weight is not for a VQ-VAE: the"):
        refused(vq_vae)
    for variable, value in zip(vq_vae.variables, before):
        np.testing.assert_array_equal(array(variable), value)


def test_weights_that_reach_the_loss_are_refused():
    """Whatever they came by, as those of a data loader."""
    vq_vae = build()
    with pytest.raises(ValueError, match="sample_weight is not for a VQ-VAE"):
        vq_vae.compute_loss(
            x=IMAGES, y_pred=vq_vae(IMAGES), sample_weight=WEIGHTS
        )


def test_generators_lose_no_batch():
    trained = []
    for data in (IMAGES, generator(IMAGES), generator(IMAGES, LABELS)):
        vq_vae = build()
        options = {} if data is IMAGES else {"steps_per_epoch": 2}
        vq_vae.fit(data, batch_size=6, shuffle=False, verbose=0, **options)
        assert int(array(vq_vae.optimizer.iterations)) == 2
        trained.append([array(v) for v in vq_vae.weights])
    for others in trained[1:]:
        for value, other in zip(trained[0], others):
            np.testing.assert_allclose(value, other, atol=1e-6)


@pytest.mark.parametrize(
    "refused",
    [
        lambda m, bad: m.fit(generator(bad)),
        lambda m, bad: m.fit(IMAGES, validation_data=(bad, None)),
        lambda m, bad: m.fit(IMAGES, validation_data=generator(bad)),
        lambda m, bad: m.evaluate(bad),
    ],
)
def test_bad_images_are_found_before_anything_starts(refused):
    vq_vae = build()
    before = [array(v).copy() for v in vq_vae.variables]
    with pytest.raises(ValueError, match="images are 4x4"):
        refused(vq_vae, IMAGES[:, :4, :4])
    for variable, value in zip(vq_vae.variables, before):
        np.testing.assert_array_equal(array(variable), value)


def test_an_uneven_last_batch_is_logged_right():
    vq_vae = build()
    images = pictures(7)
    images[4:] //= 8
    found = vq_vae.evaluate(images, batch_size=4, verbose=0, return_dict=True)
    outputs = vq_vae(images)
    error = array(outputs["reconstruction_error"]).mean()
    commitment = array(outputs["commitment"]).mean()
    np.testing.assert_allclose(
        [found["reconstruction_error"], found["commitment"], found["loss"]],
        [error, commitment, error + commitment],
        rtol=1e-5,
    )


def test_no_images_give_no_tokens():
    """And the other way round: a filter may leave none of a batch."""
    vq_vae = build()
    none = np.zeros((0, 8, 8, 3), "uint8")
    assert tuple(vq_vae.encode(none).shape) == (0, 4, 4)
    decoded = vq_vae.decode(np.zeros((0, 4, 4), "int32"))
    assert tuple(decoded.shape) == (0, 8, 8, 3)
    tokenizer = igpt_keras.VQVAETokenizer(vq_vae)
    assert tuple(tokenizer(none).shape) == (0, 16)
    decoded = tokenizer.detokenize(np.zeros((0, 16), "int32"))
    assert tuple(decoded.shape) == (0, 8, 8, 3)
    outputs = vq_vae(none)
    assert tuple(outputs["reconstruction_error"].shape) == (0,)
    assert tuple(outputs["reconstructions"].shape) == (0, 8, 8, 3)
