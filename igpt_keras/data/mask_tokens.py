def mask_tokens(dataset, mask_rate=0.15, seed=0, start_step=0):
    """Draws the masks of the BERT objective for batches of token ids.

    Every token is hidden independently with probability `mask_rate` (section
    2.1 of the paper). The mask of a batch is a function of `seed` and of the
    batch's number alone; it is drawn for the global batch, so replicas of a
    tf.distribute strategy get different parts of it.

    Args:
        dataset: `tf.data.Dataset` of `(token_ids, labels)`, int `(B, N)`.
        mask_rate: float in [0, 1]. Defaults to the paper's 0.15.
        seed: int. Defaults to 0.
        start_step: int. Number of the dataset's first batch.

    Returns:
        `tf.data.Dataset` of `(inputs, token_ids)` for `IGPT.fit`, `inputs`
        the dict of `token_ids` and `mask`, int32 with 1 where hidden.

    Raises:
        ValueError: if `mask_rate` is not a probability.
    """
    import tensorflow as tf

    if not 0 <= mask_rate <= 1:
        raise ValueError(f"mask_rate must be in [0, 1], received {mask_rate}.")

    def mask(step, batch):
        token_ids = batch[0]
        uniform = tf.random.stateless_uniform(
            tf.shape(token_ids), seed=tf.stack([seed, step])
        )
        # Not bool, which Keras cannot average over replicas when it traces
        # the first batch of a tf.distribute run.
        hidden = tf.cast(uniform < mask_rate, tf.int32)
        return {"token_ids": token_ids, "mask": hidden}, token_ids

    steps = tf.data.Dataset.range(start_step, tf.int64.max)
    return tf.data.Dataset.zip(steps, dataset).map(mask)
