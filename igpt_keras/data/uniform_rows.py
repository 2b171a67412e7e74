def uniform_rows(dataset, columns, seed=0, start_step=0, input_context=None):
    """Batches, each with random numbers of its rows.

    Those of a batch are a function of `seed` and of the batch's number alone;
    they are drawn for the global batch, so replicas of a tf.distribute
    strategy get different parts of them. Read again, a dataset has the same.

    Args:
        dataset: `tf.data.Dataset` of batches `(token_ids, targets)`, int
            `(B, N)`.
        columns: int. Numbers in a row; `None` is `N`.
        seed: int. Defaults to 0.
        start_step: int. Number of the dataset's first batch.
        input_context: `tf.distribute.InputContext` that the dataset was made
            with, of batches of one size. Defaults to a single worker.

    Returns:
        `tf.data.Dataset` of `(uniform, batch)`, the former float32
        `(B, columns)` in [0, 1).

    Raises:
        ValueError: if the dataset is not of such batches.
    """
    import tensorflow as tf

    _check_batches(dataset)
    # A worker's batches are those of its replicas, one after the other.
    parts, first = 1, 0
    replicas = 1
    if input_context is not None:
        replicas = input_context.num_replicas_in_sync
        parts = replicas // input_context.num_input_pipelines
        first = input_context.input_pipeline_id * parts

    def draw(place, batch):
        rows, tokens = tf.unstack(tf.shape(batch[0]))
        uniform = tf.random.stateless_uniform(
            [rows * replicas, tokens if columns is None else columns],
            seed=tf.stack([tf.constant(seed, tf.int64), place // parts]),
        )
        part = first + tf.cast(place % parts, tf.int32)
        return uniform[part * rows :][:rows], batch

    places = tf.data.Dataset.range(start_step * parts, tf.int64.max)
    return tf.data.Dataset.zip(places, dataset).map(draw)


def check_labels_of(dataset):
    """Raises a `ValueError` unless targets are a label for each image.

    Args:
        dataset: `tf.data.Dataset` of `uniform_rows`.
    """
    shape = dataset.element_spec[1][1].shape
    if shape.rank not in (1, None):
        raise ValueError(
            "labels=True keeps one label per image, shape (B,), received "
            f"{shape}. Pass the dataset with labels, "
            "not with token ids, as targets."
        )


def _check_batches(dataset):
    spec = getattr(dataset, "element_spec", None)
    pair = isinstance(spec, tuple) and len(spec) == 2
    if pair and not isinstance(spec[0], dict):
        if spec[0].dtype.is_integer and spec[0].shape.rank in (2, None):
            return
    raise ValueError(
        "Masks and prefixes are drawn for a tf.data.Dataset of batches "
        "(token_ids, labels), with int token_ids (B, N), received "
        f"{spec or type(dataset)}. Call `batch` first, and tokenize images."
    )
