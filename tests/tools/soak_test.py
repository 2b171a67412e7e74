import json
import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")


def soak(directory, command, *words):
    return subprocess.run(
        [
            sys.executable,
            ROOT / "tools" / "soak.py",
            f"--directory={directory}",
            f"--command={command}",
            *words,
        ],
        capture_output=True,
        text=True,
    )


@pytest.mark.large
def test_two_kills_change_nothing(tmp_path):
    """SIGKILL and SIGTERM, in the middle of epochs."""
    result = soak(
        tmp_path / "soak",
        "pretrain.py --dataset=digits --preset=igpt_nano --vocabulary_size=4 "
        "--input_resolution=4 --steps=300 --period=150 --batch_size=8 "
        "--probe_images=0 --pictures=0 --evaluation_images=64 --dropout=0.1 "
        "--checkpoint_steps=10",
        "--kills=2",
        "--seconds=1",
    )
    assert result.returncode == 0, result.stderr + result.stdout
    found = json.loads((tmp_path / "soak" / "soak.json").read_text())
    assert [k["signal"] for k in found["kills"]] == ["SIGKILL", "SIGTERM"]
    assert found["arrays"] > 100
    assert "the same, bit for bit" in result.stdout


@pytest.mark.large
def test_a_command_that_fails(tmp_path):
    result = soak(tmp_path / "soak", "pretrain.py --dataset=none --preset=x")
    assert result.returncode == 1
    assert "The command fails by itself" in result.stderr
