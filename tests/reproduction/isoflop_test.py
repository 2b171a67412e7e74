"""Plans: what is run, and that it costs what it is given."""

import pytest

from igpt_keras import presets
from igpt_keras.reproduction import isoflop_points
from igpt_keras.reproduction import isoflop_sizes
from igpt_keras.reproduction import plan_isoflop
from igpt_keras.reproduction import read_pretraining
from igpt_keras.reproduction import shared_tokens

FLAGS = {"dataset": "digits", "preset": "igpt_nano", "batch_size": "16"}


@pytest.mark.parametrize(
    "count, low, high, depths",
    [
        (5, 2, 8, [2, 3, 4, 6, 8]),
        (5, 1, 5, [1, 2, 3, 4, 5]),
        (4, 1, 32, [1, 3, 10, 32]),
        (3, 1, 4, [1, 2, 4]),
        (6, 1, 8, [1, 2, 3, 4, 5, 8]),
        (2, 3, 4, [3, 4]),
    ],
)
def test_sizes_are_of_one_shape(count, low, high, depths):
    sizes = isoflop_sizes(count, low, high, aspect_ratio=16)
    assert [size["num_layers"] for size in sizes] == depths
    for size in sizes:
        assert size["hidden_dim"] == 16 * size["num_layers"]
        assert size["hidden_dim"] == 16 * size["num_heads"]


def test_sizes_that_do_not_differ():
    with pytest.raises(ValueError, match="5 sizes of 2 to 5 layers cannot"):
        isoflop_sizes(5, 2, 5, 16)


def test_every_run_spends_its_budget():
    """Up to a step, by the FLOPs of a step, of the tokens it is trained on."""
    sizes = isoflop_sizes(3, 1, 4, 8)
    plan = plan_isoflop([3e9, 1e9], sizes, FLAGS, 17, 8)
    assert [run["budget"] for run in plan] == [1e9] * 3 + [3e9] * 3
    for run in plan:
        depth, width = run["num_layers"], run["hidden_dim"]
        # Of a token: matrices of blocks and head, and attention of 64 tokens.
        token = 6 * (12 * depth * width**2 + 17 * width)
        token += 12 * depth * 64 * width
        step = 16 * 64 * token
        assert run["budget"] - step < run["flops"] <= run["budget"]
        assert run["flops"] == run["steps"] * step
        assert run["tokens"] == run["steps"] * 16 * 64
        flags = run["run"].flags
        assert flags["period"] == flags["steps"] == run["steps"]
        assert run["parameters"] == presets.count_parameters(
            vocabulary_size=17,
            sequence_length=64,
            num_layers=depth,
            num_heads=depth,
            hidden_dim=width,
        )
    assert len({run["run"].name for run in plan}) == 6


def test_batch_and_head_count():
    sizes = isoflop_sizes(2, 1, 2, 8)
    flags = {"dataset": "digits", "preset": "igpt_nano", "head": "tied"}
    tied = plan_isoflop([1e9], sizes, flags, 17, 4)
    plain = plan_isoflop([1e9], sizes, {**flags, "head": "zeros"}, 17, 4)
    assert [x["parameters"] - y["parameters"] for x, y in zip(plain, tied)] == [
        17 * 8,
        17 * 16,
    ]
    # The preset's own batch.
    assert tied[0]["tokens"] == tied[0]["steps"] * 64 * 16


def test_a_budget_that_pays_for_nothing():
    with pytest.raises(ValueError, match="1e[+]06 FLOPs pay for no step"):
        plan_isoflop([1e6], isoflop_sizes(2, 1, 2, 8), FLAGS, 17, 8)


def test_reads_commands():
    words = "--dataset='folder:a {b}' --preset=igpt_nano --remat"
    found = read_pretraining(f"recipes/pretrain.py {words}")
    assert found == {
        "dataset": "folder:a {{b}}",
        "preset": "igpt_nano",
        "remat": True,
    }


COMMAND = "pretrain.py --preset=igpt_nano --dataset=digits"


@pytest.mark.parametrize(
    "command, message",
    [
        ("", "sizes are compared of pretrain.py"),
        ("finetune.py --dataset=digits", "begins with 'finetune.py'"),
        ("pretrain.py --dataset digits", "Write its flags as --name=value"),
        ("pretrain.py --dataset=digits", "no --preset"),
        ("pretrain.py --preset=igpt_nano", "no --dataset"),
        ("pretrain.py --preset=igpt_nano --dataset", "no --dataset=..."),
        (f"{COMMAND} --batch_size=abc", "--batch_size=abc: expected a whole"),
        (f"{COMMAND} --vocabulary_size", "size=True: expected a whole"),
        ("pretrain.py --preset=x --dataset=digits", "there are igpt_nano"),
        *(
            (f"pretrain.py --{flag}=1", f"--command has --{flag}: ")
            for flag in ("steps", "num_layers", "run_dir", "init")
        ),
    ],
)
def test_refuses_commands(command, message):
    with pytest.raises(ValueError, match=message):
        read_pretraining(command)


def test_one_palette_for_all(tmp_path):
    needs, flags, tokens = shared_tokens(FLAGS | {"seed": "3"}, tmp_path)
    (run,) = needs
    assert (run.name, run.recipe) == ("palette", "train_palette")
    assert run.flags == {"dataset": "digits", "seed": "3", "pixels": 2_560_000}
    assert tokens["model_resolution"] == 8
    assert tokens["vocabulary_size"] == 512
    plan = plan_isoflop(
        [1e12], isoflop_sizes(2, 1, 2, 8), flags, 17, 8, tuple(needs)
    )
    for member in plan:
        words = member["run"].words(tmp_path)
        assert f"--palette={tmp_path}/palette/palette.npy" in words


def test_points():
    sizes = isoflop_sizes(3, 1, 3, 8)
    plan = plan_isoflop([1e9], sizes, FLAGS, 17, 8)
    record = {"seconds": 60.0, "diverged": False}
    rows = [
        {"layer": i, "validation_accuracy": i / 10, "test_accuracy": i / 20}
        for i in range(3)
    ]
    probe = {"probe": rows, "chosen_layer": 1}
    nats = {"validation_nats_per_token": 2.0, "test_nats_per_token": 2.5}
    results = {
        plan[0]["run"].name: {"record": record, **nats, **probe, "probes": {}},
        plan[1]["run"].name: {"record": {**record, "diverged": True}},
    }
    over, diverged, missing = isoflop_points(plan, results)
    assert [x["state"] for x in (over, diverged, missing)] == [
        *("over", "diverged", "not over")
    ]
    assert (over["validation_nats"], over["test_nats"]) == (2.0, 2.5)
    assert over["chosen_layer"] == 1
    assert (over["validation_accuracy"], over["test_accuracy"]) == (0.1, 0.05)
    assert diverged["validation_nats"] is missing["test_nats"] is None
    assert diverged["validation_accuracy"] is None
    # Without a probe, and with one of another dataset.
    name = plan[0]["run"].name
    bare = {"record": record, **nats, "probe": [], "probes": {}}
    assert isoflop_points(plan, {name: bare})[0]["chosen_layer"] is None
    bare["probes"] = {"other": probe}
    assert isoflop_points(plan, {name: bare})[0]["test_accuracy"] == 0.05
