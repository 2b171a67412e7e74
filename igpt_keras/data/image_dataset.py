import os

from igpt_keras.data.examples import load_examples
from igpt_keras.data.resize import resize_image


def image_dataset(
    name,
    split,
    input_resolution,
    batch_size,
    training=False,
    seed=0,
    start_step=0,
    fold_validation=False,
    data_dir=None,
):
    """Batches of images and labels of a dataset.

    With `training=True` batches never end: every epoch is a new permutation
    of all images, each image is augmented, and batches run across the end of
    an epoch, so all are full. What step `s` sees is a function of `seed` and
    `s` alone: `start_step=s` continues a run bit for bit. Otherwise images
    come once, in order, unaugmented, the last batch being what is left.

    Augmentation: digits shift by up to a pixel (padded with background);
    CIFAR-10 as section 3.1 fine-tunes it, 4 pixels of reflection, a random
    crop and a horizontal flip; a folder's pictures the same crop with an
    eighth of their side, and no flip.

    Args:
        name: dataset, see `load_examples`.
        split: `"train"`, `"validation"` or `"test"`.
        input_resolution: int. Side of the images, `R`. Shrinking averages
            areas, after augmentation.
        batch_size: int. Images in a batch, over all replicas.
        training: bool. Defaults to `False`.
        seed: int. Order and augmentation. Defaults to 0.
        start_step: int. Batches to skip. Defaults to 0.
        fold_validation: bool. Whether train includes validation.
        data_dir: directory of prepared TFDS datasets.

    Returns:
        `tf.data.Dataset` of `(images, labels)`: uint8 `(B, R, R, 3)` and
        int32 `(B,)`, -1 where there are no labels.

    Raises:
        ValueError: for bad arguments, and as `load_examples`.
        ImportError: if TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "igpt_keras.data reads images with tf.data, and TensorFlow is not "
            "installed. Install it with `pip install tensorflow`, or train on "
            "arrays of token ids."
        ) from error
    for argument, value, least in (
        ("input_resolution", input_resolution, 1),
        ("batch_size", batch_size, 1),
        ("start_step", start_step, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(
                f"{argument} must be an int >= {least}, received {value!r}."
            )
    examples = load_examples(
        name, split, input_resolution, fold_validation, data_dir
    )
    # Captured by reference: the arrays stay out of the graph.
    images = tf.constant(examples.images)
    labels = tf.constant(examples.labels)
    num_examples = len(examples.labels)

    def load(index):
        image = tf.ensure_shape(images[index], images.shape[1:])
        return resize_image(image, input_resolution), labels[index]

    def load_augmented(k):
        epoch, position = k // num_examples, k % num_examples
        index = tf.random.experimental.index_shuffle(
            position, seed=tf.stack([seed, epoch]), max_index=num_examples - 1
        )
        image = _augment(
            images[index],
            name,
            seed=tf.stack([seed, epoch * num_examples + index]),
        )
        image = tf.ensure_shape(image, images.shape[1:])
        return resize_image(image, input_resolution), labels[index]

    if training:
        order = tf.data.Dataset.range(start_step * batch_size, tf.int64.max)
        dataset = order.map(load_augmented, os.cpu_count())
    else:
        order = tf.data.Dataset.range(
            min(start_step * batch_size, num_examples), num_examples
        )
        dataset = order.map(load, os.cpu_count())
    dataset = dataset.batch(batch_size, drop_remainder=training).prefetch(2)
    # TensorFlow 2.21: an autotuned iterator that ends can block, with Python's
    # lock held, for as long as it has run, up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _augment(image, name, seed):
    import tensorflow as tf

    size = image.shape[0]
    if name == "digits":
        margin, mode = 1, "CONSTANT"
    elif name == "cifar10":
        margin, mode = 4, "REFLECT"
    else:
        margin, mode = size // 8, "REFLECT"
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, num=2), axis=0)
    image = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]], mode)
    image = tf.image.stateless_random_crop(image, (size, size, 3), crop_seed)
    if name == "cifar10":
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return image
