import benchmark_data
import forked
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")


def run(*flags):
    return forked.run([ROOT / "tools" / "benchmark_data.py", *flags])


@pytest.mark.large
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


@pytest.mark.parametrize("cores", [[], ["0"], ["-1"], ["1", "two"], ["1.5"]])
def test_cores(cores):
    assert benchmark_data.parse_cores(["1", "16"]) == [1, 16]
    with pytest.raises(ValueError, match="integers >= 1, such as --cores=1,2"):
        benchmark_data.parse_cores(cores)


def test_datasets():
    benchmark_data.check_dataset("cifar10")
    for name in ("digits", "folder:x", "imagenet"):
        with pytest.raises(ValueError, match="Choose one of cifar10, "):
            benchmark_data.check_dataset(name)


@pytest.mark.parametrize("flag", ["images", "repeats", "input_resolution"])
def test_lower_bounds(flag):
    """Refused before TensorFlow loads."""
    result = run(f"--{flag}=0")
    assert result.returncode != 0
    assert f"--{flag}=0: 0 is not a positive integer" in result.stderr
