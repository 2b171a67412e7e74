import operator
import os

from igpt_keras.data.augment import prepare_for_evaluation
from igpt_keras.data.augment import prepare_for_training
from igpt_keras.data.examples import open_split

# TensorFlow's random numbers take seeds of 31 bits the same way everywhere.
_MOST = 2**31 - 1
# Places in the stream of images are int64; half is left for what is to come.
_MOST_IMAGES = 2**62


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
    skip_bad_images=False,
    input_context=None,
):
    """Batches of images and labels of a dataset.

    With `training=True` batches never end: every epoch is a new permutation
    of all images, each image is augmented (`prepare_for_training`), and
    batches run across the end of an epoch, so all are full. What step `s`
    sees is a function of `seed` and `s` alone: `start_step=s` continues a run
    bit for bit. Otherwise images come once, in order, unaugmented
    (`prepare_for_evaluation`), the last batch being what is left. Images are
    read from disk as they are needed; nothing is shuffled in a buffer.

    Datasets: `"digits"` (scikit-learn, 1,797 images of 8x8); of TFDS
    `"cifar10"`, `"cifar100"`, `"stl10"` (its labelled images),
    `"imagenet2012"`, `"imagenet_resized/32x32"`,
    `"downsampled_imagenet/32x32"` and `"downsampled_imagenet/64x64"` (without
    labels); `"folder:PATH"`, your own pictures, in class subdirectories if
    they have labels. Tokens, int32 `(B, N)`, in place of images come from
    `"npy:PREFIX"`, files that OpenAI released, and `"tokens:DIRECTORY"`, a
    cache that `recipes/tokenize_dataset.py` made, augmentation included.

    Splits (section 3.1 of the paper): validation is 4 % of ImageNet's train
    images and 10 % of other datasets'; test is ImageNet's validation set; a
    dataset without a test set gives a fifth of each class.

    Args:
        name: one of those.
        split: `"train"`, `"validation"` or `"test"`.
        input_resolution: int. Side of the images, `R`.
        batch_size: int. Images in a batch, over all workers and replicas.
        training: bool. Defaults to `False`.
        seed: int in `[0, 2**31)`. Order and augmentation. Defaults to 0.
        start_step: int. Batches to skip. Defaults to 0.
        fold_validation: bool. Whether train includes validation, for the
            final run after all choices are made. Defaults to `False`.
        data_dir: directory of prepared TFDS datasets. Defaults to TFDS's own.
        skip_bad_images: bool. Whether to leave out pictures of a folder that
            cannot be used. Defaults to `False`.
        input_context: `tf.distribute.InputContext`, as
            `strategy.distribute_datasets_from_function` passes it. This
            worker's part of each batch is read here and nothing else, in
            batches of one replica. Defaults to a single worker.

    Returns:
        `tf.data.Dataset` of `(images, labels)`: uint8 `(B, R, R, 3)` and
        int32 `(B,)`, -1 where there are no labels.

    Raises:
        ValueError: for bad arguments, and as `open_split`.
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
    input_resolution = _integer("input_resolution", input_resolution, 1)
    batch_size = _integer("batch_size", batch_size, 1)
    seed = _integer("seed", seed, 0)
    most = _MOST_IMAGES // batch_size
    start_step = _integer("start_step", start_step, 0, most)
    opened = open_split(
        name,
        split,
        input_resolution,
        fold_validation,
        data_dir,
        skip_bad_images,
    )
    num_examples = len(opened.labels)
    labels = tf.constant(opened.labels)

    def shuffle(k):
        """The example at place `k`, and what is random of it."""
        epoch, position = k // num_examples, k % num_examples
        index = tf.random.experimental.index_shuffle(
            position, seed=tf.stack([seed, epoch]), max_index=num_examples - 1
        )
        return index, tf.stack([seed, epoch * num_examples + index])

    def load(k):
        image = prepare_for_evaluation(opened.fetch(k), input_resolution)
        return image, labels[k]

    def load_augmented(k):
        index, image_seed = shuffle(k)
        image = prepare_for_training(
            opened.fetch(index), name, input_resolution, image_seed
        )
        return image, labels[index]

    def load_tokens(indices):
        return opened.fetch(indices), tf.gather(labels, indices)

    order, batch_size = _order(
        None if training else num_examples,
        batch_size,
        start_step,
        input_context,
    )
    threads = os.cpu_count()
    if opened.is_tokens:
        if training:
            order = order.map(lambda k: shuffle(k)[0])
        order = order.batch(batch_size, drop_remainder=training)
        dataset = order.map(load_tokens, threads)
    else:
        dataset = order.map(load_augmented if training else load, threads)
        dataset = dataset.batch(batch_size, drop_remainder=training)
    dataset = dataset.prefetch(2)
    # TensorFlow 2.21: an autotuned iterator that ends can block, with Python's
    # lock held, for as long as it has run, up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _integer(argument, value, least, most=_MOST):
    """A Python int of anything that is one, such as NumPy's."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise ValueError(
            f"{argument} must be an int >= {least} and <= {most}, received "
            f"{value!r}."
        )
    return number


def _order(count, batch_size, start_step, input_context):
    """This worker's places in the order of all, and its batch size.

    The places go on forever if `count` is `None`.
    """
    import tensorflow as tf

    workers, worker, replicas = 1, 0, 1
    if input_context is not None:
        workers = input_context.num_input_pipelines
        worker = input_context.input_pipeline_id
        replicas = input_context.num_replicas_in_sync
    if batch_size % replicas or batch_size % workers:
        raise ValueError(
            f"batch_size={batch_size} does not divide among {replicas} "
            f"replicas on {workers} workers. Choose a multiple."
        )
    share = batch_size // workers
    stop = tf.int64.max
    if count is not None:
        rest = count % batch_size - worker * share
        stop = count // batch_size * share + min(max(rest, 0), share)
    start = start_step * share
    if count is not None:
        start = min(start, stop)
    places = tf.data.Dataset.range(start, stop)
    if workers > 1:
        places = places.map(
            lambda j: j // share * batch_size + worker * share + j % share
        )
    return places, batch_size // replicas
