"""What the tests themselves do to a machine."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.large
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


def test_what_is_compiled_is_not_run_eagerly():
    """`tf.function` and `jit_compile` do nothing where functions are eager."""
    found = 0
    for path in sorted((ROOT / "tests").rglob("*_test.py")):
        text = path.read_text()
        marked = "pytestmark = pytest.mark.compiled" in text
        for node in ast.parse(text).body:
            code = ast.unparse(node)
            if "tf.function(" not in code and "jit_compile=True" not in code:
                continue
            if isinstance(node, ast.FunctionDef):
                found += 1
                assert marked or "mark.compiled" in code, (path, node.name)
    assert found
