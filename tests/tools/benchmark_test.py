"""Steps are measured in turns and shown with their ratios."""

import json
import types

import benchmark
import benchmark_step
import numpy as np
import pytest
from absl import flags

TINY = {"images": 2, "tokens": 16, "layers": 1, "heads": 2, "width": 8}


def test_ours_alone_with_nothing_installed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow")
    path = tmp_path / "step.json"
    taken = []

    class Here:
        """Steps in this process."""

        def __init__(self, python, name, size):
            del python
            taken.append(name)
            self.steps = benchmark_step.take_steps(
                benchmark_step.WAYS[name][0], types.SimpleNamespace(**size)
            )

        def __next__(self):
            return next(self.steps)

        def close(self):
            taken.append("closed")

    def missing(python, modules):
        absent = ("jax", "torch", "transformers")
        return [name for name in modules if name in absent]

    monkeypatch.setattr(benchmark, "Process", Here)
    monkeypatch.setattr(benchmark, "missing_modules", missing)
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for name, (default, _) in benchmark._SIZE.items():
        flags.DEFINE_integer(
            name, TINY.get(name, default), "", flag_values=values
        )
    flags.DEFINE_integer("runs", 5, "", flag_values=values)
    flags.DEFINE_integer("threads", 0, "", flag_values=values)
    flags.DEFINE_string("peer_python", "theirs", "", flag_values=values)
    flags.DEFINE_list("ways", list(benchmark_step.WAYS), "", flag_values=values)
    flags.DEFINE_string("output", str(path), "", flag_values=values)
    values(["benchmark.py"])
    benchmark.main(None)

    assert taken == ["igpt_keras", "closed"]
    shown = capsys.readouterr().out
    assert "igpt_keras_jax is left out: " in shown
    assert "torch_gpt is left out: theirs has no torch.\n" in shown
    assert "hugging_face is left out: theirs has no torch, transf" in shown
    found = json.loads(path.read_text())
    steps = found["steps"]["igpt_keras"]
    assert len(steps) == 5
    losses = [step["loss"] for step in steps]
    assert losses == sorted(losses, reverse=True)
    assert all(step["seconds"] > 0 for step in steps)
    # Of this process, which was larger before, there may be none.
    assert all(step["growth"] >= 0 for step in steps)
    assert found["matmul_gflops"] > 0
    row = found["summary"]["igpt_keras"]
    assert row["ratios"].pop("growth", 1) == 1
    assert row["ratios"] == {"seconds": 1, "cpu_seconds": 1}
    assert f"{row['seconds']['median']:9.3f}" in shown


@pytest.mark.large
def test_both_backends_take_steps():
    pytest.importorskip("tensorflow")
    pytest.importorskip("jax")
    names = ["igpt_keras", "igpt_keras_jax"]
    size = {**TINY, "colours": 7, "threads": 1, "seed": 0, "replicas": 1}
    ways = benchmark.open_ways(names, size, "python")
    try:
        found = benchmark.measure(ways, 5)
    finally:
        for steps in ways.values():
            steps.close()
    one, other = ([step["loss"] for step in found[name]] for name in names)
    # Fresh weights are each backend's own.
    np.testing.assert_allclose(other, one, atol=0.01)
    assert one[-1] < one[0] and other[-1] < other[0]


def steps_of(seconds, growth):
    for i in range(9):
        yield {
            "loss": 1.0,
            "seconds": seconds + i % 3,
            "cpu_seconds": 2 * seconds + i % 3,
            "growth": growth,
        }


def test_ratios_are_of_the_least_times():
    ways = {"a": steps_of(1.0, 300), "b": steps_of(4.0, 100)}
    found = benchmark.measure(ways, 5)
    assert [step["seconds"] for step in found["b"]] == [4, 5, 6, 4, 5]
    summary = benchmark.summarize(found)
    assert summary["b"]["ratios"] == {
        "seconds": 1 / 4,
        "cpu_seconds": 2 / 8,
        "growth": 3.0,
    }
    assert list(summary["a"]["seconds"].values()) == [1, 2, 3]
    assert "a to b: 0.25 of its seconds, 0.25 of its CPU seconds, 3.00 of" in (
        benchmark.write_table(summary)
    )


def test_refuses_other_ways():
    with pytest.raises(ValueError, match="--ways=keras: choose of igpt_keras"):
        benchmark.open_ways(["keras"], {}, "python")
