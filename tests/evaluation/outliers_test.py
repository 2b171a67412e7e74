import math

import numpy as np

from igpt_keras import evaluation


def test_scores_take_off_what_any_such_image_costs():
    nats = np.array([3.0, 5.0])
    scores = evaluation.outlier_scores(nats, [1, 2], np.array([1.0, 7.0]))
    expected = {
        "loss": [3, 5],
        "loss - small model's loss": [2, -2],
        # A byte is eight bits.
        "loss - compressed size": [
            3 - 8 * math.log(2),
            5 - 16 * math.log(2),
        ],
    }
    assert list(scores) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values)
    assert len(evaluation.outlier_scores(nats, [1, 2])) == 2


def test_the_area_is_the_share_of_pairs_in_order():
    generator = np.random.default_rng(0)
    inside = {"loss": generator.integers(0, 9, 40)}
    outside = {"loss": generator.integers(3, 12, 30)}
    found = evaluation.outlier_auroc(inside, outside)
    above = outside["loss"][:, None] > inside["loss"]
    equal = outside["loss"][:, None] == inside["loss"]
    assert abs(found["loss"] - np.mean(above + equal / 2)) < 1e-12
    assert found["loss"] > 0.6
