import keras
import numpy as np
import pytest
from keras import ops
from tiny import array

from igpt_keras.layers import threefry

# Of Random123, the authors' code: tests/kat_vectors, threefry2x32 20.
KNOWN_ANSWERS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
    (
        (0x13198A2E, 0x03707344),
        (0x243F6A88, 0x85A308D3),
        (0xC4923A9C, 0x483DF7A0),
    ),
]


@pytest.mark.each_backend
@pytest.mark.parametrize("key, counter, expected", KNOWN_ANSWERS)
@pytest.mark.parametrize("dtype", ["uint32", "int64"])
def test_known_answers(dtype, key, counter, expected):
    if dtype == "int64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has 32 bits; torch has no uint32")

    def words(values):
        return [ops.convert_to_tensor([x], dtype) for x in values]

    found = threefry.threefry(words(key), words(counter))
    assert tuple(int(array(word)[0]) for word in found) == expected


def seed(number, step=0):
    return np.array([number, step], "uint32")


def uniform_quantile(share):
    return share


def normal_quantile(share):
    return np.sqrt(2) * array(ops.erfinv(2 * share - 1))


@pytest.mark.each_backend
@pytest.mark.parametrize(
    "draw, quantile",
    [
        (threefry.uniform, uniform_quantile),
        (threefry.normal, normal_quantile),
    ],
)
def test_distribution(draw, quantile):
    """Chi-square of 64 classes as likely, and of pairs of neighbours."""
    values = array(draw((2**16,), seed(3)))
    assert values.dtype == "float32" and np.isfinite(values).all()
    bounds = quantile(np.arange(1, 64, dtype="float32") / 64)
    classes = np.searchsorted(bounds, values)
    for draws, size in (
        (classes, 64),
        (classes[::2] * 64 + classes[1::2], 64**2),
        # What Box and Muller make of one pair of words.
        (classes[: 2**15] * 64 + classes[2**15 :], 64**2),
    ):
        counts = np.bincount(draws, minlength=size)
        expected = len(draws) / size
        chi_square = np.square(counts - expected).sum() / expected
        # Five standard deviations of chi-square.
        assert abs(chi_square - size) < 5 * np.sqrt(2 * size)


def test_seeds_and_steps_are_independent():
    """The first numbers of neighbouring seeds and steps, as revival draws."""
    count = 100
    by_step = [array(threefry.uniform((), seed(7, i))) for i in range(count)]
    by_seed = [array(threefry.uniform((), seed(i))) for i in range(count)]
    one_draw = array(threefry.uniform((count,), seed(7)))
    rows = np.array([by_step, by_seed, one_draw])
    assert all(len(np.unique(row)) == count for row in rows)
    # Standard errors of the mean, and of a correlation.
    assert np.abs(rows.mean(axis=1) - 0.5).max() < 4 / np.sqrt(12 * count)
    serial = [np.corrcoef(row[1:], row[:-1])[0, 1] for row in rows]
    cross = (np.corrcoef(rows) - np.eye(3)).ravel()
    assert np.abs([*serial, *cross]).max() < 4 / np.sqrt(count)


def test_shapes_and_a_bound_that_is_not_reached():
    for shape in ((), (3,), (5, 7), (0, 2)):
        for draw in (threefry.uniform, threefry.normal):
            assert tuple(draw(shape, seed(1)).shape) == shape
    values = array(threefry.uniform((10**6,), seed(2)))
    assert 0 <= values.min() < 1e-4 and 1 - 1e-4 < values.max() < 1


@pytest.mark.compiled
def test_compiled_draws_are_the_same():
    """Integers, so bit by bit; the normal ones up to rounding of log."""

    def draws():
        return (
            threefry.uniform((1001,), seed(5)),
            threefry.normal((1001,), seed(5)),
        )

    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(draws)
    else:
        tf = pytest.importorskip("tensorflow")
        compiled = tf.function(draws, jit_compile=True)
    (uniform, normal), eager = compiled(), draws()
    np.testing.assert_array_equal(array(uniform), array(eager[0]))
    np.testing.assert_allclose(
        array(normal), array(eager[1]), rtol=1e-5, atol=1e-6
    )
