"""What is installed, and what a distribution of it holds."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import keras
import numpy as np
import pytest
from conftest import ROOT

import igpt_keras
from igpt_keras.__main__ import describe_installation


def test_describes_this_installation():
    text = describe_installation()
    lines = dict(line.split(maxsplit=1) for line in text.splitlines()[:6])
    assert lines["igpt_keras"] == igpt_keras.__version__
    assert lines["Python"] == sys.version.split()[0]
    assert lines["Keras"] == keras.__version__
    assert lines["NumPy"] == np.__version__
    backend = keras.backend.backend()
    version = sys.modules[backend].__version__
    assert lines["backend"] == f"{backend} {version}"
    assert lines["devices"].startswith("cpu:0")
    assert "not installed" not in text
    for start in ("recipes/pretrain.py", "docs/first_run.md", "README.md"):
        assert start in text and (ROOT / start).is_file()


def test_says_what_needs_a_missing_package(monkeypatch):
    """TFDS alone; what does not read it goes on."""
    pytest.importorskip("tensorflow")
    for name in ("tensorflow_datasets", "keras_cv"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "`pip install tensorflow-datasets`" in describe_installation()
    with pytest.raises(ImportError, match="^cifar10 is .*pip install tensorf"):
        igpt_keras.data.load_examples("cifar10", "train", input_resolution=8)
    digits = igpt_keras.data.load_examples("digits", "test", input_resolution=8)
    assert len(digits.images) == 359


def tracked():
    """Paths in the repository, as git has them."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git here that says which files are the project's")
    listed = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [p for p in listed.stdout.splitlines() if (ROOT / p).is_file()]


def test_distributions_hold_the_whole_package(tmp_path):
    """An sdist, and the wheel that is built from it."""
    pytest.importorskip("build")
    paths = tracked()
    package = {path for path in paths if path.startswith("igpt_keras/")}
    source = tmp_path / "source"
    for path in {
        *package,
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", str(source)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    name = f"igpt_keras-{igpt_keras.__version__}"
    with tarfile.open(source / "dist" / f"{name}.tar.gz") as archive:
        names = {n.removeprefix(f"{name}/") for n in archive.getnames()}
    assert package | {"setup.py", "README.md", "LICENSE"} <= names
    (wheel,) = (source / "dist").glob("*.whl")
    assert wheel.name.startswith(f"{name}-py3-none-any")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    held = {n for n in names if not n.startswith(f"{name}.dist-info/")}
    assert held == package
    assert any(n.endswith("LICENSE") for n in names)


def test_the_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    first = next(x for x in text.splitlines() if x.startswith("## "))
    assert first == f"## {igpt_keras.__version__}"
