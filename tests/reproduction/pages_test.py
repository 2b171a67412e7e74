"""Pages from results that are made up here, whole and in part."""

import itertools
import json
import pathlib

import numpy as np
import pytest

from igpt_keras import presets
from igpt_keras.reports.tables import duration
from igpt_keras.reproduction import PAGES
from igpt_keras.reproduction import SCALES
from igpt_keras.reproduction import Run
from igpt_keras.reproduction import in_order
from igpt_keras.reproduction import price
from igpt_keras.reproduction import write_page

RECORD = {"seconds": 90.0, "hardware": "2 cores", "diverged": False}


def made_up(run):
    """What a run of that recipe leaves, by its own numbers."""
    generator = np.random.default_rng(list(run.name.encode()))
    found = {"record": {**RECORD, "command": run.name}, "steps": 20}
    accuracies = generator.uniform(0.3, 0.5, 3).tolist()
    losses = sorted(generator.uniform(2, 3, 4).tolist(), reverse=True)
    rows = [
        {
            "layer": layer,
            "test_accuracy": accuracy,
            "validation_accuracy": accuracy,
        }
        for layer, accuracy in enumerate(accuracies)
    ]
    probes = [
        {
            "layers": [0, 1, 2],
            "accuracy": [0.1, 0.2 + 0.1 * i, 0.1],
            "chosen_layer": 1,
            "validation_loss": loss,
            "name": name,
        }
        for name in ("first", "second")
        for i, loss in enumerate(losses)
    ]
    masks = None
    if "bert" in run.name:
        names = ("one_mask", "ensemble", "no_mask")
        masks = {f"{name}_accuracy": 0.4 for name in names}
    found |= {
        "probe": rows,
        "chosen_layer": 1,
        "test_masks": masks,
        "probes": {},
        "validation_nats_per_token": losses[-1],
        "test_nats_per_token": losses[-2],
        "progress": {
            "probes": probes,
            "epochs": [
                {"epoch": i, "step": 30 * i, "loss": loss, "val_loss": loss}
                for i, loss in enumerate(losses)
            ],
        },
    }
    if run.recipe == "linear_probe":
        found |= {
            "concatenated": {"test_accuracy": 0.5},
            "neighbors": {"test_accuracy": accuracies[0]},
            "attentive": {"test_accuracy": accuracies[2]},
            "raw_pixels_test_accuracy": 0.3,
            "untrained_test_accuracy": 0.2,
            "test_images": 10_000,
            "low_data": [
                {
                    "labels_per_class": number,
                    "chosen_layer_accuracy": 0.3,
                    "chosen_layer_deviation": 0.01,
                    "raw_pixels_accuracy": 0.2,
                    "raw_pixels_deviation": 0.01,
                }
                for number in (4, 25, 400)
            ],
        }
    if run.recipe in ("finetune", "linear_probe_sgd"):
        found |= {
            "test_accuracy": accuracies[0],
            "test_images": 10_000,
            "curve": [
                {"epochs": i, "validation_accuracy": a}
                for i, a in enumerate(accuracies)
            ],
        }
    if run.recipe == "search_learning_rate":
        found |= {
            "best": "0.003",
            "trials": [
                {"learning_rate": "0.01", "value": None},
                {"learning_rate": "0.003", "value": 2.2},
                {"learning_rate": "0.001", "value": 2.3},
            ],
        }
    return found


def draw(name, page, results, directory):
    path = write_page(
        directory,
        name,
        "laptop",
        page,
        results,
        directory / "runs",
        {"data_dir": "there"},
        PAGES[name](SCALES["paper"], [0]),
        1e14,
    )
    return path.read_text(), json.loads(
        (directory / f"{name}.json").read_text()
    )


@pytest.mark.parametrize("name", PAGES)
def test_whole_pages(name, tmp_path):
    page = PAGES[name](SCALES["laptop"], [0, 1])
    runs = in_order(page.runs)
    # Names are those of directories, each of one run.
    assert len({run.name for run in runs}) == len(runs)
    results = {run.name: made_up(run) for run in runs}
    text, found = draw(name, page, results, tmp_path)
    assert found["missing"] == [] and "Not over yet" not in text
    states = {cell["state"] for cell in found["cells"]}
    assert "laptop scale" in states and states <= {"laptop scale", "quoted"}
    assert {t["verdict"] for t in found["trends"]} <= {
        "shown",
        "not shown",
        "cannot be told",
    }
    for run in runs:
        assert run.command(tmp_path / "runs", data_dir="there") in text
    for place, chart in enumerate(found["charts"], 1):
        file = tmp_path / f"{name}_{place}.png"
        assert file.stat().st_size < 200_000
        assert f"]({file.name})" in text and chart["series"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_without_results_say_what_is_missing(name, tmp_path):
    page = PAGES[name](SCALES["laptop"], [0])
    text, found = draw(name, page, {}, tmp_path)
    names = [run.name for run in in_order(page.runs)]
    assert found["missing"] == names
    assert f"missing below: {', '.join(names)}" in text
    for cell in found["cells"]:
        assert cell["ours"] is None
        expected = "priced" if cell["paper"] is None else "quoted"
        assert cell["state"] == expected
    for run in in_order(page.runs):
        minutes = price(run)["flops"] / SCALES["laptop"].throughput / 60
        row = f"| {run.name} | priced: {minutes:.1f} | 3e+10 FLOPs a second |"
        assert row in text
    assert {t["verdict"] for t in found["trends"]} <= {"not measured"}
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("name", PAGES)
def test_each_missing_run_leaves_the_rest(name, tmp_path):
    page = PAGES[name](SCALES["laptop"], [0])
    runs = in_order(page.runs)
    for left_out in runs:
        results = {r.name: made_up(r) for r in runs if r is not left_out}
        content = page.content(results)
        assert content.cells


DIVERGED = {"record": {**RECORD, "command": "", "diverged": True}}


@pytest.mark.parametrize("name", PAGES)
def test_a_run_that_diverged_is_no_number(name, tmp_path):
    page = PAGES[name](SCALES["laptop"], [0])
    results = {run.name: DIVERGED for run in in_order(page.runs)}
    text, found = draw(name, page, results, tmp_path)
    assert found["missing"] == []
    ours = {cell["ours"] for cell in found["cells"]}
    assert ours <= {None, "1 of 1 diverged", "all diverged"}


def test_a_rate_too_high_is_told_by_its_divergence():
    page = PAGES["section_a1"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in page.runs}
    (high,) = (name for name in results if name.endswith("too_high"))
    results[high] = DIVERGED
    content = page.content(results)
    assert content.trends[-1]["verdict"] == "shown, by divergence"
    (cell,) = (c for c in content.cells if c["ours"] == "1 of 1 diverged")
    assert cell["row"] == "learning rate too high"


def test_losses_of_section_a1_are_compared_by_seed():
    """The normal head's of two seeds, of which the first lacks the other."""
    page = PAGES["section_a1"](SCALES["laptop"], [0, 1, 2])
    seeds = [run.flags["seed"] for run in page.runs]
    assert seeds == sorted(seeds)
    results = {run.name: made_up(run) for run in page.runs}
    names = ("as_the_paper", "normal_head")
    usual, head = (f"pretrain_igpt_nano_{name}" for name in names)
    del results[usual]
    for seed, nats in (1, (2.0, 2.1)), (2, (3.0, 3.3)):
        for name, value in zip((usual, head), nats):
            run = results[f"{name}_seed{seed}"]
            run["validation_nats_per_token"] = value
    trends = page.content(results).trends
    (found,) = (t for t in trends if t["statement"].startswith("normal head"))
    np.testing.assert_allclose(found["difference"], 0.2)
    np.testing.assert_allclose(found["standard_error"], 0.1)


def test_hidden_tokens_are_charted_apart():
    """Of 15 lines in one chart two would have a colour."""
    page = PAGES["section_a1"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in page.runs}
    variants, masks = page.content(results).charts
    assert list(masks["series"])[0] == "mask rate 0.15"
    assert len(masks["series"]) == 5 and len(variants["series"]) == 10
    assert masks["y_label"] == "validation loss, nats per hidden token"
    assert variants["y_label"] == "validation loss, nats per token"
    page = PAGES["table_5"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in page.runs}
    searched, bert = page.content(results).charts
    assert bert["y_label"] == masks["y_label"]
    assert searched["y_label"] == variants["y_label"]
    assert list(bert["series"]) == list(SCALES["laptop"].sizes)


def test_seeds_are_of_all_that_follows():
    """Fresh weights of a baseline too."""
    for name in ("table_1", "table_3", "figure_4", "section_4.4"):
        runs = in_order(PAGES[name](SCALES["paper"], [0, 1]).runs)
        commands = {tuple(run.words(pathlib.Path("x"))[:-1]) for run in runs}
        # But for where its model is, each is another command.
        assert len(commands) == len(runs)
        for run in runs:
            for needed in run.needs:
                assert run.flags["seed"] == needed.flags["seed"]


def test_few_labels_are_priced_by_their_batches():
    """800 steps of all 40 images at most."""
    runs = PAGES["table_4"](SCALES["paper"], [0]).runs
    (few,) = (run for run in runs if run.recipe == "finetune")
    whole = PAGES["table_3"](SCALES["paper"], [0]).runs[0]
    assert (price(few)["steps"], price(whole)["steps"]) == (800, 40 * 351)
    ratio = price(few)["flops"] / price(whole)["flops"]
    np.testing.assert_allclose(ratio, 800 * 40 / (40 * 351 * 128))


def test_table_4_is_no_surer_than_its_test_images():
    """Subsets of few labels agree closely, and all are read on the same."""
    page = PAGES["table_4"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in in_order(page.runs)}
    (probed,) = (m for n, m in results.items() if n.startswith("probe"))
    probed["test_images"] = 5000
    for row in probed["low_data"]:
        row |= {"chosen_layer_accuracy": 0.28, "raw_pixels_accuracy": 0.265}
        row |= {"chosen_layer_deviation": 0.001, "raw_pixels_deviation": 0.001}
    for found in page.content(results).trends:
        variance = 0.28 * 0.72 + 0.265 * 0.735
        expected = np.sqrt(variance / 5000)
        np.testing.assert_allclose(found["standard_error"], expected)
        assert found["verdict"] == "cannot be told"


def test_section_a1_shows_how_far_the_validation_loss_rose():
    page = PAGES["section_a1"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in in_order(page.runs)}
    losses = [3.0, 2.5, 2.75, 2.6, 2.4]
    name = "pretrain_igpt_nano_learning_rate_too_high"
    results[name]["progress"]["epochs"] = [
        {"epoch": i, "step": i, "loss": -i, "val_loss": loss}
        for i, loss in enumerate(losses)
    ]
    column = "largest rise of the validation loss"
    rises = [
        cell["ours"]
        for cell in page.content(results).cells
        if (cell["row"], cell["column"]) == ("learning rate too high", column)
    ]
    assert rises == ["0.2500"]


def test_figure_2_shows_what_was_measured(tmp_path):
    page = PAGES["figure_2"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in page.runs}
    (metrics,) = results.values()
    metrics["chosen_layer"] = 1
    for row, accuracy in zip(metrics["probe"], (0.2, 0.45, 0.4)):
        row["test_accuracy"] = accuracy
    _, found = draw("figure_2", page, results, tmp_path)
    (cell,) = found["cells"]
    assert (cell["paper"], cell["ours"]) == ("2.4", "5.0")
    assert [t["verdict"] for t in found["trends"]] == ["shown", "shown"]
    differences = [t["difference"] for t in found["trends"]]
    np.testing.assert_allclose(differences, [0.05, 0.25])
    (chart,) = found["charts"]
    assert chart["series"] == {"cifar10": [[0, 1, 2], [20.0, 45.0, 40.0]]}


def test_figure_2_takes_a_layer_inside_for_one():
    """Not the last, where that is the chosen one."""
    page = PAGES["figure_2"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in page.runs}
    (metrics,) = results.values()
    metrics["chosen_layer"] = 2
    for row, accuracy in zip(metrics["probe"], (0.2, 0.15, 0.45)):
        row["test_accuracy"] = row["validation_accuracy"] = accuracy
    trends = page.content(results).trends
    np.testing.assert_allclose([t["difference"] for t in trends], [-0.3, -0.05])
    assert [t["verdict"] for t in trends] == ["not shown", "not shown"]


def test_figure_4_draws_both_objectives():
    page = PAGES["figure_4"](SCALES["laptop"], [0, 1])
    results = {run.name: made_up(run) for run in in_order(page.runs)}
    del results["finetune_pretrain_igpt_nano_bert_cifar10"]
    probed, tuned = page.content(results).charts
    rows = results["probe_pretrain_igpt_nano_bert_cifar10"]["probe"]
    assert list(probed["series"]) == ["autoregressive", "bert"]
    expected = [100 * row["test_accuracy"] for row in rows]
    assert probed["series"]["bert"] == ([0, 1, 2], expected)
    # Of the first seed that is over.
    name = "finetune_pretrain_igpt_nano_bert_seed1_cifar10"
    points = results[name]["curve"]
    expected = [100 * point["validation_accuracy"] for point in points]
    assert tuned["series"]["bert"] == ([0, 1, 2], expected)


def test_figure_4_compares_under_one_mask_the_mean_of_several():
    """And gaps of a seed, where another is missing."""
    page = PAGES["figure_4"](SCALES["laptop"], [0, 1])
    results = {run.name: made_up(run) for run in in_order(page.runs)}
    accuracies = {
        "probe_pretrain_igpt_nano_cifar10": 0.7,
        "probe_pretrain_igpt_nano_seed1_cifar10": 0.9,
        "probe_pretrain_igpt_nano_bert_cifar10": 0.4,
        "probe_pretrain_igpt_nano_bert_seed1_cifar10": 0.5,
        "finetune_pretrain_igpt_nano_cifar10": 0.3,
        "finetune_pretrain_igpt_nano_seed1_cifar10": 0.8,
        "finetune_pretrain_igpt_nano_bert_seed1_cifar10": 0.6,
    }
    del results["finetune_pretrain_igpt_nano_bert_cifar10"]
    for name, accuracy in accuracies.items():
        metrics = results[name]
        if "bert" in name:
            metrics["test_masks"]["one_mask_accuracy"] = accuracy
        elif "probe" in metrics and name.startswith("probe"):
            row = metrics["probe"][metrics["chosen_layer"]]
            row["test_accuracy"] = accuracy
        else:
            metrics["test_accuracy"] = accuracy
    content = page.content(results)
    cells = {(c["row"], c["column"]): c["ours"] for c in content.cells}
    assert cells["bert, one mask", "probe"].startswith("45.0")
    assert cells["bert, one mask", "fine-tuning"].startswith("60.0")
    above, closes = content.trends[-2:]
    np.testing.assert_allclose(above["difference"], 0.8 - 0.45)
    np.testing.assert_allclose(closes["difference"], 0.35 - 0.2)


@pytest.mark.parametrize(
    "above, difference, verdict",
    [
        # Of the smaller and the larger size, those of each seed; `None` is
        # not over.
        ([[0.0], [0.1]], 0.1, "one seed"),
        ([[0.0, 0.5], [None, 0.6]], 0.1, "one seed"),
        ([[0.0, 0.5, 0.1], [0.1, 0.6, 0.21]], 0.31 / 3, "shown"),
    ],
)
def test_figure_3_compares_sizes_at_equal_loss(above, difference, verdict):
    """Of a seed with its own, since seeds differ more than sizes."""
    seeds = range(len(above[0]))
    page = PAGES["figure_3"](SCALES["laptop"], seeds)
    results = {}
    for run, more in zip(page.runs, itertools.chain(*above)):
        if more is None:
            continue
        results[run.name] = made_up(run)
        results[run.name]["progress"]["probes"] = [
            {
                "name": "validation",
                "layers": [0],
                "chosen_layer": 0,
                # Straight lines, at other losses.
                "accuracy": [1 - 0.2 * loss + more],
                "validation_loss": loss,
            }
            for loss in np.linspace(3, 2, 5) - more
        ]
    content = page.content(results)
    trend = content.trends[0]
    np.testing.assert_allclose(trend["difference"], difference)
    assert trend["verdict"] == verdict


def test_price_of_the_papers_pretraining():
    """FLOPs of a million steps; thirteen checkpoints of 12 bytes a weight."""
    runs = PAGES["figure_3"](SCALES["paper"], [0]).runs
    flops = [price(run)["flops"] for run in runs]
    np.testing.assert_allclose(flops, [7.9e19, 4.2e20, 1.19e21], rtol=0.01)
    assert {price(run)["steps"] for run in runs} == {1_000_000}
    weights = presets.count_parameters(**presets.IGPT["igpt_s"])
    assert price(runs[0])["disk_bytes"] == weights * (13 * 12 + 4)


def test_price_of_a_network_of_other_layers():
    """Twice the layers: twice their FLOPs, and once the head's."""
    flags = SCALES["laptop"].pretrain | {"preset": "igpt_nano", "steps": 1}
    few, many = (
        price(Run("run", "pretrain", flags | {"num_layers": layers}))["flops"]
        for layers in (8, 16)
    )
    plain = price(Run("run", "pretrain", flags))["flops"]
    # 64 images of 64 tokens; a product and its two gradients.
    head = 6 * 64 * 64 * 48 * 64
    assert few == plain and many == pytest.approx(2 * plain - head)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", PAGES)
def test_every_run_has_a_price(name, scale):
    for run in in_order(PAGES[name](SCALES[scale], [0]).runs):
        cost = price(run)
        assert cost["flops"] > 0
        assert (cost["steps"] > 0) == (run.recipe != "linear_probe")


def test_durations():
    assert [duration(s) for s in (90, 600, 9000, 2e5, 1e8)] == [
        "90 seconds",
        "10.0 minutes",
        "2.5 hours",
        "2.3 days",
        "1,157.4 days",
    ]


def test_epochs_of_attentive_probes_are_priced():
    runs = in_order(PAGES["study_variants"](SCALES["paper"], [0]).runs)
    pretrained, probe = (run for run in runs if "raster_causal" in run.name)
    step = price(pretrained)["flops"] / price(pretrained)["steps"]
    # 60,000 images by two networks, 45,000 twenty times; a third of a step.
    passes = (2 * 60_000 + 20 * 45_000) / 3
    np.testing.assert_allclose(price(probe)["flops"], passes * step / 128)


def test_nats_of_variants_are_compared_by_seed(tmp_path):
    """What a seed's palette does to all is no error of a difference."""
    page = PAGES["study_variants"](SCALES["laptop"], [0, 1, 2])
    results = {run.name: made_up(run) for run in in_order(page.runs)}
    for order, nats in (
        ("raster", (2.0, 2.5, 3.0)),
        ("spiral", (2.1, 2.6, 3.3)),
        ("columns", (2.2, 2.7, None)),
    ):
        for suffix, value in zip(("", "_seed1", "_seed2"), nats):
            name = f"pretrain_igpt_nano_study_{order}_causal{suffix}"
            if value is None:
                del results[name]
            else:
                results[name]["test_nats_per_token"] = value
    _, found = draw("study_variants", page, results, tmp_path)
    by_statement = {trend["statement"]: trend for trend in found["trends"]}
    spiral, columns = (
        by_statement[f"{order}, causal: more nats than raster, causal"]
        for order in ("spiral", "columns")
    )
    np.testing.assert_allclose(spiral["difference"], 0.5 / 3)
    error = np.std([0.1, 0.1, 0.3], ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(spiral["standard_error"], error)
    assert spiral["verdict"] == "shown"
    # Of the seeds that both have.
    np.testing.assert_allclose(columns["difference"], 0.2)


def test_variants_are_read_in_three_ways(tmp_path):
    """The plain model first, and each other one beside it."""
    page = PAGES["study_variants"](SCALES["laptop"], [0])
    results = {run.name: made_up(run) for run in in_order(page.runs)}
    for name, nats, read in (
        ("pretrain_igpt_nano_study_raster_causal", 2.0, (0.5, 0.4, 0.6)),
        ("pretrain_igpt_nano_study_spiral_causal", 2.1, (0.4, 0.5, 0.6)),
    ):
        results[name]["test_nats_per_token"] = nats
        probed = results[f"probe_{name}_cifar10"]
        probed["probe"][1]["test_accuracy"] = read[0]
        probed["neighbors"]["test_accuracy"] = read[1]
        probed["attentive"]["test_accuracy"] = read[2]
    _, found = draw("study_variants", page, results, tmp_path)
    row = [c["ours"] for c in found["cells"] if c["row"] == "raster, causal"]
    assert row == ["2.0000", "50.0", "40.0", "60.0", "1"]
    assert found["cells"][0]["row"] == "raster, causal"
    of_spiral = [
        trend
        for trend in found["trends"]
        if trend["statement"].startswith("spiral")
    ]
    differences = [trend["difference"] for trend in of_spiral]
    np.testing.assert_allclose(differences, [0.1, 0.1, -0.1, 0], atol=1e-9)
    verdicts = [trend["verdict"] for trend in of_spiral]
    assert verdicts == ["one seed", "shown", "not shown", "cannot be told"]
    # Nats of hidden tokens are not compared with those of all.
    assert not any("any, none: more" in t["statement"] for t in found["trends"])
    orders, attentions = (chart["series"] for chart in found["charts"])
    assert (
        list(orders) == "raster columns reversed spiral z_curve random".split()
    )
    assert list(attentions) == [
        "causal",
        "prefix_causal",
        "block_causal 2",
        "none",
    ]
