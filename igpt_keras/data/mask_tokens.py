from igpt_keras.data.uniform_rows import check_labels_of
from igpt_keras.data.uniform_rows import uniform_rows


def mask_tokens(
    dataset,
    mask_rate=0.15,
    seed=0,
    start_step=0,
    labels=False,
    input_context=None,
):
    """Draws the masks of the BERT objective for batches of token ids.

    Every token is hidden independently with probability `mask_rate` (section
    2.1 of the paper). The mask of a batch is a function of `seed` and of the
    batch's number alone; it is drawn for the global batch, so replicas of a
    tf.distribute strategy get different parts of it. Read again, a dataset
    has the same masks.

    Args:
        dataset: `tf.data.Dataset` of batches `(token_ids, labels)`, int
            `(B, N)`.
        mask_rate: float in [0, 1]. Defaults to the paper's 0.15.
        seed: int. Defaults to 0.
        start_step: int. Number of the dataset's first batch. Defaults to 0.
        labels: bool. Whether the dataset's labels are the targets, for
            fine-tuning and for probes, which see masks too (section 4.6).
            Defaults to `False`: the targets are the token ids.
        input_context: `tf.distribute.InputContext` that the dataset was made
            with, of batches of one size. Defaults to a single worker.

    Returns:
        `tf.data.Dataset` of `(inputs, token_ids)` for `IGPT.fit`, or with
        `labels` of `(inputs, labels)` for `IGPTClassifier.fit`,
        `extract_features` and `LinearProbe`; `inputs` the dict of `token_ids`
        and `mask`, int32 with 1 where hidden.

    Raises:
        ValueError: if `mask_rate` is not a probability, or the dataset is not
            of such batches.
    """
    import tensorflow as tf

    if not 0 <= mask_rate <= 1:
        raise ValueError(f"mask_rate must be in [0, 1], received {mask_rate}.")
    dataset = uniform_rows(dataset, None, seed, start_step, input_context)
    if labels:
        check_labels_of(dataset)

    def mask(uniform, batch):
        token_ids, targets = batch
        # Not bool, which Keras cannot average over replicas when it traces
        # the first batch of a tf.distribute run.
        hidden = tf.cast(uniform < mask_rate, tf.int32)
        inputs = {"token_ids": token_ids, "mask": hidden}
        return inputs, targets if labels else token_ids

    return dataset.map(mask)
