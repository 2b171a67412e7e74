"""Times of steps are explained by their parts."""

import benchmark_scaling
import numpy as np
import pytest


def every_size():
    return {
        name: size
        for sweep in benchmark_scaling.SWEEPS
        for name, size in benchmark_scaling.sizes(sweep, 4096).items()
    }


def test_sizes_differ_in_one_thing():
    base = benchmark_scaling.BASE
    for size in every_size().values():
        assert sum(size[key] != value for key, value in base.items()) <= 1
        assert 2304 <= size["images"] * size["tokens"] <= 4096
        assert size["width"] == 32 * size["heads"]


def test_amounts_of_a_size():
    """One layer of width 32 on an image of 64 tokens, by hand."""
    (size,) = (size for size in every_size().values() if size["width"] == 32)
    size = {**size, "layers": 1, "tokens": 64, "images": 1}
    amounts = benchmark_scaling.parts(size)
    weights = 12 * 32**2 + 512 * 32
    assert amounts["matrix products"] == 6 * weights * 64
    # Two products, and twice as much backward, of half of N x N.
    assert amounts["attention"] == 3 * 2 * 2 * 32 * 64**2 / 2
    assert amounts["activations"] == 32 * 64
    assert amounts["logits"] == 512 * 64


def test_parts_that_times_were_made_of_are_found(tmp_path):
    sizes = every_size()
    by_size = [benchmark_scaling.parts(size) for size in sizes.values()]
    rates = {
        "matrix products": 2e-11,
        "attention": 5e-11,
        "activations": 3e-9,
        "logits": 0.0,
        "each layer": 1e-3,
        "each step": 2e-3,
    }
    each = [
        {name: amount * rates[name] for name, amount in parts.items()}
        for parts in by_size
    ]
    seconds = [sum(row.values()) for row in each]
    found = benchmark_scaling.explain(list(sizes), by_size, seconds)
    assert found["parts_error"] < 1e-6
    # One rate for all does not say why small sizes and many tokens are slow.
    assert found["flops_error"] > 0.05
    assert 1e10 < found["flops_rate"] < 5e10
    for row, time, own in zip(found["sizes"], seconds, each):
        assert row["by_parts"] == pytest.approx(time, rel=1e-5)
        for name, value in own.items():
            share = pytest.approx(value / time, abs=1e-4)
            assert row["share"][name] == share
    text = benchmark_scaling.write_table(found)
    assert "the parts by 0.0%" in text and "4 x 128, 4096 tokens" in text
    sweeps = {
        name: benchmark_scaling.sizes(name, 4096)
        for name in benchmark_scaling.SWEEPS
    }
    benchmark_scaling.draw(tmp_path / "scaling.png", sweeps, found)
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_times_that_go_by_flops_need_no_parts():
    sizes = every_size()
    by_size = [benchmark_scaling.parts(size) for size in sizes.values()]
    seconds = [
        (parts["matrix products"] + parts["attention"]) / 4e10
        for parts in by_size
    ]
    found = benchmark_scaling.explain(list(sizes), by_size, seconds)
    assert found["flops_error"] < 1e-6
    np.testing.assert_allclose(found["flops_rate"], 4e10)
