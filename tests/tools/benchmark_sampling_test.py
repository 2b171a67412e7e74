import json

import forked
import pytest
from conftest import ROOT


def test_all_ways_are_timed_in_turns(tmp_path):
    path = tmp_path / "sampling.json"
    flags = {
        "images": 2,
        "tokens": 16,
        "layers": 1,
        "heads": 2,
        "width": 8,
        "colours": 4,
        "repeats": 2,
        "released_passes": 3,
        "output": path,
    }
    result = forked.run(
        [ROOT / "tools" / "benchmark_sampling.py"]
        + [f"--{name}={value}" for name, value in flags.items()]
    )
    assert result.returncode == 0, result.stderr
    assert "released: 3 passes, scaled to 16" in result.stdout
    found = json.loads(path.read_text())
    assert {"whole", "half", "released"} <= set(found["seconds"])
    for name, times in found["seconds"].items():
        assert len(times) == 2 and min(times) > 0
        assert f"{name:16}{min(times):9.3f}" in result.stdout
    whole, half = (min(found["seconds"][n]) for n in ("whole", "half"))
    assert found["ratios"]["half_to_whole"] == pytest.approx(half / whole)
    assert found["matmul_gflops"] > 0 and found["hardware_threads"] > 0
