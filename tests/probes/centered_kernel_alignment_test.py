import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.probes import centered_kernel_alignment
from igpt_keras.probes import stream_features


def layers(count=60, widths=(7, 4, 9)):
    """Features that have something in common, far from zero."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(count, 5))
    return [
        common @ generator.normal(size=(5, width))
        + generator.normal(size=(count, width))
        + 100 * generator.normal(size=width)
        for width in widths
    ]


def by_definition(x, y):
    """Centred `n x n` kernels: HSIC(K, L) over the root of both with itself."""
    n = len(x)
    center = np.eye(n) - np.ones((n, n)) / n

    def hsic(k, m):
        return np.trace(center @ k @ center @ m) / (n - 1) ** 2

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_is_the_alignment_of_centred_kernels():
    """In batches of any sizes, and of layers of any widths."""
    features = layers()
    expected = [[by_definition(x, y) for y in features] for x in features]
    assert 0.05 < expected[0][1] < 0.95
    for ends in ([], [1, 20, 55]):
        batches = zip(*(np.split(x, ends) for x in features))
        found = centered_kernel_alignment(batches)
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_allclose(found.diagonal(), 1, rtol=1e-12)


def test_what_it_does_not_see_and_what_it_does():
    """Section 2: rotations and scale, not every linear map."""
    generator = np.random.default_rng(3)
    x, y, _ = layers()
    rotation, _ = np.linalg.qr(generator.normal(size=(7, 7)))
    linear = rotation * np.array([0.1, 3, 0.1, 0.1, 0.1, 0.1, 1])
    others = [x @ rotation, -3 * x, x + 50, x @ linear]
    found = centered_kernel_alignment([[y, x, *others]])
    np.testing.assert_allclose(found[0, 2:5], found[0, 1], rtol=1e-9)
    np.testing.assert_allclose(found[1, 2:5], 1, rtol=1e-9)
    assert found[1, 5] < 0.95
    assert abs(found[0, 5] - found[0, 1]) > 0.01


def test_of_a_models_layers_without_keeping_features():
    x = tiny.token_ids(40)
    model = tiny.model()
    labels = np.zeros(40, "int32")
    batches = [(x[:16], labels[:16]), (x[16:], labels[16:])]
    features, _ = igpt_keras.extract_features(model, batches)
    parts = list(stream_features(model, batches))
    np.testing.assert_allclose(
        np.concatenate([part for part, _ in parts], axis=1), features, atol=1e-5
    )
    found = centered_kernel_alignment(part for part, _ in parts)
    expected = [
        [
            by_definition(a.astype("float64"), b.astype("float64"))
            for b in features
        ]
        for a in features
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "batches, message",
    [
        ([], "of 0 images have no alignment"),
        ([np.ones((2, 1, 3))], "of 1 images have no alignment"),
        ([np.ones((2, 3))], "Put a single batch in a list"),
        ([[np.ones((4, 3)), np.ones((5, 3))]], "of the same images"),
        (
            [np.ones((2, 4, 3)), np.ones((2, 4, 2))],
            r"widths \[3, 3\] as before",
        ),
        ([np.full((2, 4, 3), np.nan)], "not finite"),
        ([[np.eye(4), np.ones((4, 3))]], "layer 1 of those passed"),
    ],
)
def test_refuses(batches, message):
    with pytest.raises(ValueError, match=message):
        centered_kernel_alignment(batches)
