import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")


def run(*flags):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "benchmark_data.py", *flags],
        capture_output=True,
        text=True,
    )


def test_every_stage_is_shown_beside_tfds(shared):
    result = run(
        f"--data_dir={shared / 'data' / 'tfds'}",
        "--images=32",
        "--repeats=1",
        "--cores=1",
    )
    assert result.returncode == 0, result.stderr
    table = result.stdout[result.stdout.index("1 core(s)") :]
    stages = [line[:16].strip() for line in table.splitlines()[1:]]
    assert stages == [
        "TFDS, decoded",
        "read",
        "decoded",
        "augmented",
        "resized",
        "whole, tokens",
    ]
    assert "1.00 x" in table.splitlines()[1]


def test_unprepared_data_is_a_sentence(tmp_path):
    result = run(f"--data_dir={tmp_path}")
    assert result.returncode == 1
    assert "benchmark_data.py: No prepared imagenet2012 in" in result.stderr
    assert "Traceback" not in result.stderr
