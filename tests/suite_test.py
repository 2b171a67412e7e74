"""What the tests themselves do to a machine."""

import os
import subprocess
import sys

from conftest import ROOT


def test_leaves_nothing_in_the_temporary_directory(tmp_path):
    """Not even what TensorFlow writes for the functions that it traces."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-n", "1", "tests/data/mask_tokens_test.py", "-k", "rate"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert list(tmp_path.iterdir()) == []
