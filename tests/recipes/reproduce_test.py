import dataclasses
import json

import pytest
import recipe
from absl import flags

pytest.importorskip("tensorflow")

from igpt_keras import reproduction  # noqa: E402

TINY = dataclasses.replace(
    reproduction.SCALES["laptop"],
    pretrain={
        "dataset": "digits",
        "input_resolution": 4,
        "vocabulary_size": 5,
        "batch_size": 8,
        "probe_images": 0,
        "pictures": 0,
        "evaluation_images": 40,
        "num_layers": 2,
    },
    sizes={"igpt_nano": {"steps": 2, "period": 1}},
    main="igpt_nano",
    labelled=("digits",),
    concat=2,
    probe={"probe_images": 200, "evaluation_images": 40, "layers": "0,1,2"},
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(reproduction.SCALES, "laptop", TINY)


def test_runs_and_draws(tiny, tmp_path, capfd, forked_scripts, monkeypatch):
    """Figure 2, as processes; the second time nothing is run.

    Where it cannot be run again, its numbers stay.
    """
    run_dir, output = tmp_path / "runs", tmp_path / "results"
    flags = {"figure": 2, "run_dir": run_dir, "output": output}
    recipe.run("reproduce", **flags)
    out = capfd.readouterr().out
    assert "Run 2 of 2: probe_pretrain_igpt_nano_digits" in out
    assert f"{output}/figure_2_laptop.md" in out
    page = json.loads((output / "figure_2_laptop.json").read_text())
    metrics = json.loads(
        (
            run_dir / "laptop/probe_pretrain_igpt_nano_digits/metrics.json"
        ).read_text()
    )
    layers, accuracies = page["charts"][0]["series"]["digits"]
    assert layers == [0, 1, 2]
    rows = metrics["probe"]
    assert accuracies == [100 * row["test_accuracy"] for row in rows]
    assert (output / "figure_2_laptop_1.png").is_file()
    copy = output / "runs/laptop/probe_pretrain_igpt_nano_digits/metrics.json"
    assert json.loads(copy.read_text()) == metrics
    before = (run_dir / "laptop/pretrain_igpt_nano/reproduce.json").stat()
    recipe.run("reproduce", **flags)
    after = (run_dir / "laptop/pretrain_igpt_nano/reproduce.json").stat()
    assert before.st_mtime_ns == after.st_mtime_ns

    def fail(*arguments):
        raise ValueError("no data here")

    monkeypatch.setattr(reproduction, "execute", fail)
    with pytest.raises(ValueError, match="no data here"):
        recipe.run("reproduce", **{**flags, "run_dir": tmp_path / "other"})
    assert json.loads((output / "figure_2_laptop.json").read_text()) == page
    copies = f"From earlier copies in {output}/runs/laptop: pretrain_igpt_nano"
    assert copies in capfd.readouterr().out


def test_a_run_that_fails_leaves_the_rest_drawn(tiny, tmp_path, forked_scripts):
    """Of Figure 2: its model is there, but empty, and its probe is not."""
    done = tmp_path / "runs" / "laptop" / "pretrain_igpt_nano"
    (done / "preset").mkdir(parents=True)
    run = reproduction.PAGES["figure_2"](TINY, [0]).runs[0].needs[0]
    record = {"seconds": 1.0, "hardware": "x", "diverged": False}
    record["command"] = run.command(done.parent)
    (done / "reproduce.json").write_text(json.dumps(record))
    flags = {"run_dir": tmp_path / "runs", "output": tmp_path / "results"}
    with pytest.raises(ValueError, match="ended with status 1"):
        recipe.run("reproduce", figure=2, **flags)
    page = json.loads((tmp_path / "results/figure_2_laptop.json").read_text())
    assert page["missing"] == ["probe_pretrain_igpt_nano_digits"]


def test_draws_without_running(tmp_path, capsys):
    recipe.run(
        "reproduce",
        table=4,
        draw=True,
        seeds=2,
        run_dir=tmp_path / "runs",
        output=tmp_path / "results",
    )
    text = (tmp_path / "results" / "table_4_laptop.md").read_text()
    assert "Not over yet" in text and "26.8 +- 1.5" in text
    assert "finetune_pretrain_igpt_micro_cifar10_few_seed1" in text
    assert not (tmp_path / "runs").exists()


def test_a_page_without_copies_of_its_runs_is_kept(tmp_path, capsys):
    page = tmp_path / "table_4_laptop.json"
    page.write_text(json.dumps({"runs": [{"run": "of_a_former_machine"}]}))
    recipe.run(
        "reproduce", table=4, draw=True, run_dir=tmp_path, output=tmp_path
    )
    assert "of_a_former_machine" in page.read_text()
    assert f"{page} is left as it is" in capsys.readouterr().out


def test_prices_without_running(tmp_path, capsys):
    recipe.run("reproduce", figure=3, scale="paper", dry_run=True)
    out = capsys.readouterr().out
    assert "1.19e+21" in out and "137.5 days" in out
    assert "--preset=igpt_l" in out


@pytest.mark.parametrize("given", [{}, {"figure": 2, "table": 1}])
def test_takes_one_page(given):
    with pytest.raises(flags.Error, match="pass one of --figure"):
        recipe.parse("reproduce", **given)
