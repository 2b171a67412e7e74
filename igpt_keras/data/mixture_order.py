"""The order of examples of several sources, in shares that are exact."""

import functools

import numpy as np

from igpt_keras.data.order import epochs

# Places in a block, at least: of fewer, neighbours would tell of each other; of
# more, the shares of a short run would be less exact.
BLOCK = 1000
# A seed has less: what is above them tells the sources apart.
_SEED_BITS = 32


def mixed(places, parts, seed):
    """Which source stands at places of an endless stream of several.

    The stream is made of blocks, each a permutation, drawn anew from the seed
    and the block, of as many places of each source as are its share exactly.
    How often a source came before a place is hence known without a look at
    the places before its block.

    Args:
        places: `tf.data.Dataset` of int64 scalars from 0, ascending.
        parts: sequence of int > 0, `(K,)`. Of every `sum(parts)` images, how
            many are of each source.
        seed: int.

    Returns:
        `tf.data.Dataset` of `(source, place)`, int64: in `[0, K)`, and how
        often that source came before.
    """
    import tensorflow as tf

    count = len(parts)
    sizes = np.array(parts) * -(-BLOCK // sum(parts))
    length = int(sizes.sum())
    # The sources' own are below.
    key = seed + (count << _SEED_BITS)
    sizes = tf.constant(sizes, tf.int64)
    sorted_sources = tf.repeat(tf.range(count, dtype=tf.int64), sizes)

    def draw(block):
        sources = tf.random.experimental.stateless_shuffle(
            sorted_sources, [key, block], alg="philox"
        )
        own = tf.one_hot(sources, count, dtype=tf.int64)
        before = tf.reduce_sum(own * tf.cumsum(own, exclusive=True), axis=1)
        return sources, before

    def find(state, place):
        block, place = place // length, place % length
        sources, before = tf.cond(
            block == state[0], lambda: state[1:], lambda: draw(block)
        )
        source = sources[place]
        found = source, block * sizes[source] + before[place]
        return (block, sources, before), found

    unknown = tf.zeros([length], tf.int64)
    return places.scan((tf.constant(-1, tf.int64), unknown, unknown), find)


def shuffled_sources(places, counts, seed):
    """What stands at places of several streams, each one as `shuffled`'s.

    The permutations of a source are independent of the others'; the first
    source's are those that it has alone.

    Args:
        places: `tf.data.Dataset` of `(source, place)`, as `mixed` makes it.
        counts: sequence of int, `(K,)`. Examples in an epoch of each.
        seed: int in `[0, 2**31)`.

    Returns:
        `tf.data.Dataset` of `(source, index, image_seed)`.
    """
    import tensorflow as tf

    none, finds = zip(
        *(
            epochs(count, seed + (source << _SEED_BITS))
            for source, count in enumerate(counts)
        )
    )

    def find(states, at):
        source, place = at

        def find_in(k):
            state, found = finds[k](states[k], place)
            return (*states[:k], state, *states[k + 1 :]), found

        cases = [functools.partial(find_in, k) for k in range(len(finds))]
        states, found = tf.switch_case(tf.cast(source, tf.int32), cases)
        return states, (source, *found)

    return places.scan(none, find)
