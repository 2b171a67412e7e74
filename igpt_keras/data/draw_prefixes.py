from igpt_keras.data.uniform_rows import check_labels_of
from igpt_keras.data.uniform_rows import uniform_rows


def draw_prefixes(
    dataset, seed=0, start_step=0, labels=False, input_context=None
):
    """Draws prefixes for a model of `attention="prefix_causal"`.

    The length of each image's is uniform over 0 to `N - 1`, so that one token
    at least is predicted: with the start token 1 to `N` of `N + 1` positions,
    as of AIM's `K` patches (El-Nouby et al. 2024, section 3.2), whose first is
    never predicted. Lengths depend on `seed` and a batch's number alone, as
    the masks of `mask_tokens` do.

    Args:
        dataset: `tf.data.Dataset` of batches `(token_ids, labels)`, int
            `(B, N)`.
        seed: int. Defaults to 0.
        start_step: int. Number of the dataset's first batch. Defaults to 0.
        labels: bool. Whether the dataset's labels are the targets, for
            fine-tuning. Defaults to `False`: the targets are the token ids.
        input_context: `tf.distribute.InputContext` that the dataset was made
            with, of batches of one size. Defaults to a single worker.

    Returns:
        `tf.data.Dataset` of `(inputs, token_ids)` for `IGPT.fit`, or with
        `labels` of `(inputs, labels)` for `IGPTClassifier.fit`; `inputs` the
        dict of `token_ids` and `prefix_length`, int32 `(B,)`.

    Raises:
        ValueError: if the dataset is not of such batches.
    """
    import tensorflow as tf

    dataset = uniform_rows(dataset, 1, seed, start_step, input_context)
    if labels:
        check_labels_of(dataset)

    def draw(uniform, batch):
        token_ids, targets = batch
        count = tf.cast(tf.shape(token_ids)[1], tf.float32)
        # Rounded down, also in float32: the largest number is below one by
        # more than half of what the product is rounded to.
        lengths = tf.cast(uniform[:, 0] * count, tf.int32)
        inputs = {"token_ids": token_ids, "prefix_length": lengths}
        return inputs, targets if labels else token_ids

    return dataset.map(draw)
