import json
import subprocess
import sys

import measure_memory
import pytest
from conftest import ROOT


@pytest.mark.large
def test_measures_beside_the_estimate(tmp_path, subprocess_environment):
    pytest.importorskip("tensorflow")
    result = subprocess.run(
        [
            sys.executable,
            ROOT / "tools" / "measure_memory.py",
            "--sizes=1x16x2x256x8",
            f"--output={tmp_path / 'memory.json'}",
        ],
        env=subprocess_environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.strip().split("\n")) == 3
    rows = json.loads((tmp_path / "memory.json").read_text())
    assert [row["remat"] for row in rows] == [False, True]
    for row in rows:
        # Of one block: its scores are there three times in any case.
        assert row["measured"] > 3 * 4 * 8 * 2 * 256**2
        assert row["ratio"] == pytest.approx(row["estimated"] / row["measured"])


@pytest.mark.parametrize("text", ["1x2x3x4", "1x2x3x4x0", "axbxcxdxe"])
def test_refuses_what_is_no_size(text):
    with pytest.raises(ValueError, match="expected LAYERSxWIDTH"):
        measure_memory.read_size(text)
