import numpy as np
import pytest
from tiny import array

from igpt_keras import CodebookUsage


def test_counts_all_updates_until_reset():
    usage = CodebookUsage(5)
    for ids in ([[0, 0], [1, 1]], [[2], [2]], np.zeros((0, 3), "int32")):
        usage.update_state(ids)
    found = {name: float(array(x)) for name, x in usage.result().items()}
    assert found["active_codes"] == 3
    # Of frequencies 1/3, 1/3, 1/3.
    np.testing.assert_allclose(found["perplexity"], 3, rtol=1e-6)
    usage.update_state([0, 0])
    # 4, 2 and 2 of 8: exp(-(1/2 log 1/2 + 2 * 1/4 log 1/4)) = 2 * sqrt(2)
    np.testing.assert_allclose(
        array(usage.result()["perplexity"]), 2 * np.sqrt(2), rtol=1e-6
    )
    usage.reset_state()
    usage.update_state([3])
    assert float(array(usage.result()["active_codes"])) == 1


@pytest.mark.each_backend
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64"])
def test_counts_ids_of_any_number_of_bits(dtype):
    usage = CodebookUsage(300)
    usage.update_state(np.array([[0, 100, 100, 7]], dtype))
    counts = np.bincount([0, 100, 100, 7], minlength=300)
    np.testing.assert_array_equal(array(usage.counts), counts)


def test_takes_whole_numbers_of_codes():
    assert CodebookUsage(np.int64(4)).get_config()["vocabulary_size"] == 4
    for size in (2.5, True, 0, "4"):
        with pytest.raises(ValueError, match="must be a positive int"):
            CodebookUsage(size)


@pytest.mark.parametrize(
    "ids, weight, message",
    [
        ([4], None, r"must be in \[0, 4\), received 4 to 4"),
        (np.array([200], "uint8"), None, r"in \[0, 4\), received 200"),
        ([-1], None, r"must be in \[0, 4\)"),
        ([0.5], None, "must be integers"),
        ([0], [1.0], "sample_weight is not for CodebookUsage"),
    ],
)
def test_refuses_what_it_would_drop(ids, weight, message):
    with pytest.raises(ValueError, match=message):
        CodebookUsage(4).update_state(ids, sample_weight=weight)
