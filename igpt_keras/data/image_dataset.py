from igpt_keras.data.open_split import open_split


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
    of all images, each image is augmented (`data/augment.py`), and batches run
    across the end of an epoch, so all are full. What step `s` sees is a
    function of `seed` and `s` alone: `start_step=s` continues a run bit for
    bit. Otherwise images come once, in order, unaugmented (the centre square,
    resized), the last batch being what is left. Images are read from disk as
    they are needed; nothing is shuffled in a buffer. `open_split` gives the
    same as an object, to read one split in several ways.

    Datasets: `"digits"` (scikit-learn, 1,797 images of 8x8) and
    `"placed_digits"` (each somewhere on a canvas of 12x12); of TFDS
    `"cifar10"`, `"cifar100"`, `"stl10"` (its labelled images),
    `"imagenet2012"`, `"imagenet_resized/32x32"`,
    `"downsampled_imagenet/32x32"` and `"downsampled_imagenet/64x64"` (without
    labels); `"folder:PATH"`, your own pictures, in class subdirectories if
    they have labels. Tokens, int32 `(B, N)`, in place of images come from
    `"npy:PREFIX"`, files that OpenAI released, and `"tokens:DIRECTORY"`, a
    cache that `recipes/tokenize_dataset.py` made, augmentation included.

    To train on, `"imagenet2012:0.9,folder:PATH:0.1"` mixes two or more of
    images in shares by their weights, see `Mixture`; what it is evaluated on,
    and its classes, are those of the first.

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
    opened = open_split(
        name,
        split,
        input_resolution,
        fold_validation,
        data_dir,
        skip_bad_images,
    )
    return opened.batches(batch_size, training, seed, start_step, input_context)
