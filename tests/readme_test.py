"""The README's commands and program run as written."""

import functools
import http.server
import importlib
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")
import recipe  # noqa: E402
import released_checkpoint  # noqa: E402

from igpt_keras import presets  # noqa: E402
from igpt_keras import program  # noqa: E402

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    for block in blocks("bash"):
        for line in block.splitlines():
            yield line.split("#")[0].strip()


def test_every_command_is_tested_here():
    kinds = {line.split()[0] for line in commands()}
    assert kinds == {"make", "pip", "python"}


def test_make_targets_exist():
    targets = [line.split()[1] for line in commands() if "make" in line]
    assert targets == ["demo", "test"]
    result = subprocess.run(
        ["make", "--dry-run", *targets],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "recipes/pretrain.py --dataset=digits" in result.stdout
    assert "pytest" in result.stdout
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def run_command(line, directory):
    """A command as written, from another directory; its standard output."""
    for part in ("recipes/", "tools/"):
        line = line.replace(f"python {part}", f"{sys.executable} {ROOT}/{part}")
    result = subprocess.run(
        line, shell=True, cwd=directory, capture_output=True, text=True
    )
    assert result.returncode == 0, line + result.stderr[-3000:]
    return result.stdout


def run_program(text, directory, environment):
    result = subprocess.run(
        [sys.executable, "-c", text],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_pretraining_commands_run(tmp_path, monkeypatch):
    """One after the other, for two steps of a network of four layers.

    The one that trains nothing is a process of its own.
    """
    monkeypatch.chdir(tmp_path)
    shallow = {**presets.IGPT["igpt_nano"], "num_layers": 4}
    monkeypatch.setitem(presets.IGPT, "igpt_nano", shallow)
    lines = [
        line
        for line in commands()
        if "recipes/" in line and "--model=openai/" not in line
    ]
    assert len(lines) == 16
    for line in lines:
        if "search_learning_rate.py" in line:
            # Trials are processes, which its own tests run.
            _, path, *words = shlex.split(line)
            check_search([path, *words])
            continue
        if "recipes/pretrain.py" in line and "--dry_run" not in line:
            probed = 64 if "--run_dir=runs/digits" in line else 0
            line += f" --steps=2 --period=2 --probe_images={probed}"
            line += " --evaluation_images=64"
        for name in ("train_vq_vae", "finetune", "linear_probe_sgd"):
            if f"{name}.py" in line:
                line += " --steps=2 --period=2 --evaluation_images=64"
        if "--preset=igpt_s" in line:
            run_command(line, tmp_path)
        else:
            _, path, *words = shlex.split(line)
            script = importlib.import_module(pathlib.Path(path).stem)
            script.main(program.parse(script.define_flags, [path, *words]))
    for run in ("digits", "from_tokens", "from_codes"):
        assert (tmp_path / "runs" / run / "completions.png").is_file()
    for run in ("finetuned", "from_scratch"):
        assert (tmp_path / "runs" / run / "accuracy.png").is_file()
    assert (tmp_path / "runs" / "pictures" / "animation.gif").is_file()
    assert (tmp_path / "runs" / "compressed" / "pictures.igpt").is_file()


def check_search(argv):
    """That a search's flags are right, and those of its trials."""
    search = importlib.import_module("search_learning_rate")
    args = program.parse(search.define_flags, argv)
    recipe_file, words = search.read_command(args.command)
    script = importlib.import_module(pathlib.Path(recipe_file).stem)
    program.parse(script.define_flags, [recipe_file, *words])


def test_training_program_runs(tmp_path, subprocess_environment):
    run_program(blocks("python")[0], tmp_path, subprocess_environment)
    assert (tmp_path / "runs" / "mine" / "config.json").is_file()


def test_a_run_of_the_parts_goes_on(tmp_path, subprocess_environment):
    program = blocks("python")[1]
    run_program(program, tmp_path, subprocess_environment)
    run = tmp_path / "runs" / "parts"
    progress = json.loads((run / "progress.json").read_text())
    assert [probe["step"] for probe in progress["probes"]] == [10, 20]
    more = program.replace("steps=20,\n    period", "steps=30,\n    period")
    assert more != program
    run_program(more, tmp_path, subprocess_environment)
    progress = json.loads((run / "progress.json").read_text())
    assert [probe["step"] for probe in progress["probes"]] == [10, 20, 30]


@pytest.fixture
def released(tmp_path):
    """A server with what OpenAI's has, but for a small model.

    The palette is not there: only OpenAI's own would pass the download.
    """
    directory = tmp_path / "server"
    size = {
        "vocabulary": 512,
        "length": 1024,
        "layers": 4,
        "heads": 2,
        "width": 8,
    }
    released_checkpoint.write(
        directory / "checkpoints/igpt-s/1000000/model.ckpt-1000000",
        released_checkpoint.variables(size=size),
        shards=32,
    )
    (directory / "datasets").mkdir()
    generator = np.random.default_rng(0)
    for split in ("trX", "trY", "vaX", "vaY", "teX", "teY"):
        np.save(
            directory / "datasets" / f"imagenet_{split}.npy",
            generator.integers(0, 512, (70, 1024)),
        )
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=directory
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_weights_in_and_out(released, tmp_path, subprocess_environment):
    """The tools' commands in turn, then the program that opens the weights."""
    download, convert, evaluate = (
        line
        for line in commands()
        if "tools/" in line or "--model=openai/" in line
    )
    assert " --palette " in download
    download = download.replace(" --palette ", " ")
    run_command(f"{download} --base_url={released}", tmp_path)
    (tmp_path / "openai" / "color-clusters").mkdir()
    palette = np.random.default_rng(0).uniform(-1, 1, (512, 3))
    np.save(tmp_path / "openai/color-clusters/kmeans_centers.npy", palette)
    assert "largest difference" in run_command(convert, tmp_path)
    report = run_command(evaluate, tmp_path)
    assert "70 images" in report
    # Other sizes than the released ones: no number of theirs to stand beside.
    assert "released code" not in report
    shutil.copytree(tmp_path / "runs/igpt_s", tmp_path / "imagegpt-small")
    run_program(blocks("python")[2], tmp_path, subprocess_environment)
    assert (tmp_path / "runs" / "small" / "palette.npy").is_file()


def test_flags_of_the_table_exist():
    flags = re.findall(r"^\| `--(\w+)` \|", README, flags=re.MULTILINE)
    required = {"dataset": "digits", "preset": "igpt_nano"}
    defined = vars(recipe.parse("pretrain", **required))
    assert len(flags) >= 4
    assert set(flags) <= set(defined)
