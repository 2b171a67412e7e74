"""The order of examples, as functions of a place in the stream of them."""


def shuffled(place, count, seed):
    """What stands at a place of an endless stream of shuffled epochs.

    Args:
        place: int64 scalar tensor, from 0.
        count: int. Examples in an epoch.
        seed: int.

    Returns:
        `(index, image_seed)`: the example, int64 in `[0, count)`, and int64
        `(2,)`, of which what is random of it in this epoch is a function.
    """
    import tensorflow as tf

    epoch, position = place // count, place % count
    index = tf.random.experimental.index_shuffle(
        position, seed=tf.stack([seed, epoch]), max_index=count - 1
    )
    return index, tf.stack([seed, epoch * count + index])


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
