"""Commands and programs of the README and of the guide run as written.

`variants_test.py` and `notebook_test.py` run those of their pages.
"""

import dataclasses
import functools
import http.server
import importlib
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import threading
from unittest.mock import Mock

import numpy as np
import pytest
from absl import flags
from conftest import ROOT
from PIL import Image

pytest.importorskip("tensorflow")
import recipe  # noqa: E402
import released_checkpoint  # noqa: E402

import igpt_keras  # noqa: E402
from igpt_keras import presets  # noqa: E402
from igpt_keras import program  # noqa: E402
from igpt_keras import reports  # noqa: E402

# In the order in which one's commands need what another's left.
PAGES = {
    path: (ROOT / path).read_text()
    for path in (
        "README.md",
        "docs/first_run.md",
        "docs/your_images.md",
        "docs/evaluation.md",
        "docs/reading_features.md",
        "docs/openai_weights.md",
        "docs/many_devices.md",
        "docs/igpt_xl.md",
        "docs/performance.md",
    )
}
# Their commands need devices that are not here, but for what trains nothing.
OF_DEVICES = ("docs/many_devices.md", "docs/igpt_xl.md")


def blocks(page, language):
    pattern = rf"```{language}\n(.*?)```"
    return re.findall(pattern, PAGES[page], flags=re.DOTALL)


def commands(pages=PAGES):
    """Each command once, on one line."""
    found = {}
    for page in pages:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                found[" ".join(line.split("#")[0].split())] = page
    return found


def test_every_page_is_tested():
    others = {"docs/index.md", "docs/variants.md"}
    paths = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert paths | {"README.md"} == set(PAGES) | others
    assert "```" not in (ROOT / "docs/index.md").read_text()
    for page, text in PAGES.items():
        languages = set(re.findall(r"^```(\w+)", text, re.MULTILINE))
        assert languages <= {"bash", "python"}, page
    kinds = {line.split()[0] for line in commands()}
    assert kinds == {"make", "pip", "python"}


def test_make_targets_exist():
    targets = {line.split()[1] for line in commands() if "make" in line}
    assert targets == {"demo", "test"}
    result = subprocess.run(
        ["make", "--dry-run", *targets, "docs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "recipes/sample.py --model=igpt_micro_cifar10" in result.stdout
    assert "recipes/pretrain.py --dataset=placed_digits" in result.stdout
    assert "pytest" in result.stdout
    assert "mkdocs build --strict" in result.stdout
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_installations_are_of_files_that_are_there():
    lines = [line for line in commands() if line.startswith("pip")]
    assert "pip install -e ." in lines
    for name in re.findall(r"-r (\S+)", " ".join(lines)):
        assert (ROOT / name).is_file()
    modules = re.findall(r"python -m (\w+)", "\n".join(commands()))
    assert modules == ["igpt_keras"]


def words_of(line):
    """Path and flags of a script's command."""
    python, path, *words = shlex.split(line)
    assert python == "python" and (ROOT / path).is_file(), line
    return path, words


def run_recipe(line):
    """A recipe's command in this process."""
    path, words = words_of(line)
    script = importlib.import_module(pathlib.Path(path).stem)
    script.main(program.parse(script.define_flags, [path, *words]))


def run_tool(line):
    """A tool's command in this process."""
    path, words = words_of(line)
    script = importlib.import_module(pathlib.Path(path).stem)
    before = set(flags.FLAGS)
    script.define_flags()
    try:
        flags.FLAGS([path, *words])
        script.main([path])
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def check_flags(line):
    """That a command's flags are right, and those of a search's trials."""
    path, words = words_of(line.replace("NUMBER", "0"))
    script = importlib.import_module(pathlib.Path(path).stem)
    args = program.parse(script.define_flags, [path, *words])
    if "search_learning_rate" in path:
        recipe_file, words = script.read_command(args.command)
        script = importlib.import_module(pathlib.Path(recipe_file).stem)
        program.parse(script.define_flags, [recipe_file, *words])


def recipe_commands():
    return {
        line: page
        for line, page in commands().items()
        if "recipes/" in line
        and "--model=openai/" not in line
        and "--model=igpt_micro" not in line
    }


def test_commands_that_measure_have_these_flags():
    """They take minutes of an idle machine; their own tests run them."""
    lines = [x for x in commands(["docs/performance.md"]) if "tools/" in x]
    assert len(lines) >= 4
    for line in lines:
        path, words = words_of(line)
        script = importlib.import_module(pathlib.Path(path).stem)
        program.parse(script.define_flags, [path, *words])


def test_commands_of_many_devices_have_these_flags():
    lines = [x for x, page in recipe_commands().items() if page in OF_DEVICES]
    assert len(lines) >= 4
    for line in lines:
        check_flags(line)


def test_commands_of_recipes_run(tmp_path, monkeypatch, capsys):
    """One after the other, for two steps of a network of two layers."""
    monkeypatch.chdir(tmp_path)
    small = {"num_layers": 2, "hidden_dim": 16}
    nano = {**presets.IGPT["igpt_nano"], **small}
    monkeypatch.setitem(presets.IGPT, "igpt_nano", nano)
    for number in range(30):
        path = tmp_path / "photos" / "cat dog".split()[number % 2]
        path.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number,) * 3).save(path / f"{number}.png")
    lines = [
        line
        for line, page in recipe_commands().items()
        if page not in OF_DEVICES or "--dry_run" in line
    ]
    assert len(lines) >= 18
    for line in lines:
        if "search_learning_rate.py" in line:
            # Trials are processes, which its own tests run.
            check_flags(line)
            continue
        if "recipes/pretrain.py" in line and "--dry_run" not in line:
            probed = 64 if "--run_dir=runs/digits" in line else 0
            line += f" --steps=2 --period=2 --probe_images={probed}"
            line += " --evaluation_images=64 --pictures=0"
        for name in ("train_vq_vae", "finetune", "linear_probe_sgd"):
            if f"{name}.py" in line:
                line += " --steps=2 --period=2 --evaluation_images=64"
        if "linear_probe.py" in line:
            line += " --probe_images=300 --evaluation_images=64"
            line += " --batch_size=300"
        if "evaluate.py" in line:
            line += " --batch_size=300"
        if "linear_probe_sgd.py" in line:
            line += " --layers=0,1,2"
        if "--attentive" in line:
            line += " --layers=1 --attentive=1 --attentive_epochs=1"
        with monkeypatch.context() as patch:
            # Of each tokenizer one run is drawn.
            if "--run_dir=runs/from_tokens" in line:
                patch.setattr(reports, "draw_samples", Mock())
            run_recipe(line)
    for run in ("digits", "from_codes"):
        for name in ("samples", "completions"):
            assert (tmp_path / "runs" / run / f"{name}.png").is_file()
    for run in ("finetuned", "from_scratch"):
        assert (tmp_path / "runs" / run / "accuracy.png").is_file()
    assert (tmp_path / "runs" / "pictures" / "animation.gif").is_file()
    assert (tmp_path / "runs" / "compressed" / "pictures.igpt").is_file()
    run_programs("docs/reading_features.md", tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    assert "22 train, 2 validation, 6 test images of 2 classes" in printed
    # What docs/many_devices.md says of the last one.
    for part in ("--micro_batches=8", "54.7 GB", "42.7 GB"):
        assert part in printed and part in PAGES["docs/many_devices.md"]


@pytest.mark.compiled
def test_commands_with_weights_that_come_along_run(tmp_path, monkeypatch):
    lines = [line for line in commands() if "--model=igpt_micro" in line]
    assert len(lines) >= 1
    monkeypatch.chdir(tmp_path)
    for line in lines:
        run_recipe(line)
    assert (tmp_path / "runs" / "colour" / "samples.png").is_file()


def run_programs(page, directory, monkeypatch):
    """A page's programs, each after those before it."""
    monkeypatch.chdir(directory)
    for text in blocks(page, "python"):
        exec(compile(text, page, "exec"), {"__name__": page})


@pytest.fixture
def few_images(monkeypatch):
    """Two hundred of each split of a dataset."""
    load_examples = igpt_keras.data.load_examples

    def load_few(*arguments, **options):
        examples = load_examples(*arguments, **options)
        images, labels = examples.images[:200], examples.labels[:200]
        return dataclasses.replace(examples, images=images, labels=labels)

    monkeypatch.setattr(igpt_keras.data, "load_examples", load_few)


@pytest.mark.compiled
def test_short_program_runs(tmp_path, monkeypatch, few_images):
    assert len(blocks("README.md", "python")) == 1
    run_programs("README.md", tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "short" / "config.json").is_file()


@pytest.mark.compiled
def test_programs_of_the_first_run(tmp_path, monkeypatch, few_images):
    """The second one is a run, which goes on for more steps."""
    run_programs("docs/first_run.md", tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "mine" / "config.json").is_file()
    run = tmp_path / "runs" / "parts"
    progress = json.loads((run / "progress.json").read_text())
    assert [probe["step"] for probe in progress["probes"]] == [10, 20]
    program = blocks("docs/first_run.md", "python")[1]
    more = program.replace("steps=20,\n    period", "steps=30,\n    period")
    assert more != program
    exec(compile(more, "more", "exec"), {})
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
        # As many variables as shards, at least.
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


def test_weights_in_and_out(released, tmp_path, monkeypatch, capsys):
    """The tools' commands in turn, then the program that opens the weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    download, convert, evaluate = commands(["docs/openai_weights.md"])
    assert " --palette " in download
    download = download.replace(" --palette ", " ")
    run_tool(f"{download} --base_url={released}")
    (tmp_path / "openai" / "color-clusters").mkdir()
    palette = np.random.default_rng(0).uniform(-1, 1, (512, 3))
    np.save(tmp_path / "openai/color-clusters/kmeans_centers.npy", palette)
    capsys.readouterr()
    run_tool(convert)
    assert "largest difference" in capsys.readouterr().out
    run_recipe(evaluate)
    report = capsys.readouterr().out
    assert "70 images" in report
    # Other sizes than the released ones: no number of theirs to stand beside.
    assert "released code" not in report
    shutil.copytree(tmp_path / "runs/igpt_s", tmp_path / "imagegpt-small")
    run_programs("docs/openai_weights.md", tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "small" / "palette.npy").is_file()


def test_flags_of_the_table_exist():
    text = PAGES["docs/your_images.md"]
    cells = re.findall(r"^\| (`--[^|]+) \|", text, flags=re.MULTILINE)
    named = re.findall(r"`--(\w+)`", " ".join(cells))
    required = {"dataset": "digits", "preset": "igpt_nano"}
    defined = vars(recipe.parse("pretrain", **required))
    assert len(named) >= 20
    assert set(named) <= set(defined)


def test_every_recipe_has_a_row():
    rows = re.findall(r"^\| `(\w+)\.py`", PAGES["README.md"], re.MULTILINE)
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.py")}
    assert len(rows) == len(recipes) and set(rows) == recipes
    scripts = [line for line in commands() if "recipes/" in line]
    shown = {pathlib.Path(words_of(line)[0]).stem for line in scripts}
    assert shown == recipes
