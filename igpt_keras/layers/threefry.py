"""Random numbers that are a function of the seed on every way of running.

`keras.random` draws others under XLA than without it for the same seed. These
are Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3"), in integer operations alone: number `i` is made of the
seed and `i`.
"""

import math

import numpy as np
from keras import ops

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_MASK = np.uint32(0xFFFFFFFF)


def uniform(shape, seed, stream=0):
    """Numbers in [0, 1), multiples of 2**-24.

    Args:
        shape: tuple of ints, or of what `keras.ops.shape` gives.
        seed: int tensor `(2,)`, what `keras.random.SeedGenerator.next` gives.
        stream: int scalar. Each has numbers of its own. Defaults to 0.

    Returns:
        float32 of that shape.
    """
    first, _ = _words(math.prod(shape), seed, stream)
    return ops.reshape(_fraction(first), shape)


def normal(shape, seed):
    """Numbers of the standard normal distribution (Box and Muller 1958).

    Args:
        shape: tuple of ints.
        seed: int tensor `(2,)`, what `keras.random.SeedGenerator.next` gives.

    Returns:
        float32 of that shape.
    """
    count = math.prod(shape)
    first, second = _words((count + 1) // 2, seed)
    # 1 - u is never 0.
    radius = ops.sqrt(-2 * ops.log(1 - _fraction(first)))
    angle = 2 * math.pi * _fraction(second)
    both = [radius * ops.cos(angle), radius * ops.sin(angle)]
    return ops.reshape(ops.concatenate(both)[:count], shape)


def threefry(key, counter):
    """Two words of 32 random bits for each counter.

    Args:
        key: two integer tensors that broadcast to the counter's.
        counter: two integer tensors of one shape, uint32, or wider where a
            backend has no uint32.

    Returns:
        Two tensors of the counter's shape and dtype.
    """
    parity = ops.bitwise_xor(ops.bitwise_xor(*key), _PARITY)
    keys = (*key, parity)
    x, y = (_add(word, key) for word, key in zip(counter, keys))
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x = _add(x, y)
            y = ops.bitwise_xor(_rotate(y, rotation), x)
        x = _add(x, keys[(i + 1) % 3])
        y = _add(y, _add(keys[(i + 2) % 3], np.uint32(i + 1)))
    return x, y


def _words(count, seed, stream=0):
    seed = ops.cast(seed, "uint32")
    counter = ops.cast(ops.arange(count, dtype="int32"), "uint32")
    stream = ops.zeros_like(counter) + ops.cast(stream, "uint32")
    return threefry((seed[0], seed[1]), (counter, stream))


def _fraction(words):
    bits = ops.cast(ops.right_shift(words, np.uint32(8)), "float32")
    return bits * 2.0**-24


def _add(x, y):
    # Wraps by itself in uint32, which torch does not have.
    return ops.bitwise_and(ops.add(x, y), _MASK)


def _rotate(x, bits):
    high = ops.bitwise_and(ops.left_shift(x, np.uint32(bits)), _MASK)
    return ops.bitwise_or(high, ops.right_shift(x, np.uint32(32 - bits)))
