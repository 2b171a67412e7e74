"""The order of examples, as functions of a place in the stream of them."""

# Of a run: one that was begun with another order cannot go on with this one.
ORDER_FORMAT = 2


def shuffled(places, count, seed):
    """What stands at places of an endless stream of shuffled epochs.

    Each epoch is a permutation, drawn anew from the seed and the epoch.

    Args:
        places: `tf.data.Dataset` of int64 scalars from 0, ascending.
        count: int. Examples in an epoch.
        seed: int.

    Returns:
        `tf.data.Dataset` of `(index, image_seed)`: the example, int64 in
        `[0, count)`, and int64 `(2,)`, of which what is random of it in this
        epoch is a function.
    """
    return places.scan(*epochs(count, seed))


def epochs(count, seed):
    """Where the scan that `shuffled` is starts, and its function."""
    import tensorflow as tf

    def permutation(epoch):
        # `index_shuffle`, which needs no permutation in memory, takes seeds
        # modulo 256, and its neighbours are not independent.
        return tf.random.experimental.stateless_shuffle(
            tf.range(count, dtype=tf.int64), [seed, epoch], alg="philox"
        )

    def find(state, place):
        epoch = place // count
        order = tf.cond(
            epoch == state[0], lambda: state[1], lambda: permutation(epoch)
        )
        index = order[place % count]
        image_seed = tf.stack([seed, epoch * count + index])
        return (epoch, order), (index, image_seed)

    return (tf.constant(-1, tf.int64), tf.zeros([count], tf.int64)), find


def places(count, batch_size, start_step, input_context):
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
    order = tf.data.Dataset.range(start, stop)
    if workers > 1:
        order = order.map(
            lambda j: j // share * batch_size + worker * share + j % share
        )
    return order, batch_size // replicas
