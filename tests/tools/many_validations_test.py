import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")


def test_a_few(subprocess_environment):
    result = subprocess.run(
        [
            sys.executable,
            ROOT / "tools" / "many_validations.py",
            "--validations=20",
        ],
        env=subprocess_environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "20 validations, all the same" in result.stdout
