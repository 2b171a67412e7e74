"""The README's commands and program run as written."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")

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


def test_recipe_commands_run(tmp_path):
    """As written, but for two steps and from another directory."""
    lines = [line for line in commands() if line.startswith("python")]
    assert len(lines) >= 2
    for line in lines:
        line = line.replace("recipes/", f"{ROOT}/recipes/")
        if "--dry_run" not in line:
            line += " --steps=2 --probe_images=64 --evaluation_images=64"
        result = subprocess.run(
            line.replace("python ", f"{sys.executable} "),
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, line + result.stderr[-3000:]
    assert (tmp_path / "runs" / "digits" / "completions.png").is_file()


def test_program_runs(tmp_path, subprocess_environment):
    (program,) = blocks("python")
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=subprocess_environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "runs" / "mine" / "config.json").is_file()


def test_flags_of_the_table_exist():
    flags = re.findall(r"^\| `--(\w+)` \|", README, flags=re.MULTILINE)
    defined = (ROOT / "recipes" / "pretrain.py").read_text()
    assert len(flags) >= 4
    for flag in flags:
        assert f'"{flag}"' in defined
