import json

import forked
import pytest
from conftest import ROOT

import igpt_keras


def test_all_ways_are_timed_in_turns(tmp_path):
    path = tmp_path / "sampling.json"
    draft = igpt_keras.IGPT(4, 16, num_layers=1, num_heads=1, hidden_dim=4)
    draft.save_to_preset(tmp_path / "draft")
    flags = {
        "images": 2,
        "tokens": 16,
        "layers": 1,
        "heads": 2,
        "width": 8,
        "colours": 4,
        "repeats": 2,
        "released_passes": 3,
        "draft": tmp_path / "draft",
        "draft_tokens": 3,
        "lengths": "16,4",
        "batches": "1,2",
        "picture": tmp_path / "sampling.png",
        "output": path,
    }
    result = forked.run(
        [ROOT / "tools" / "benchmark_sampling.py"]
        + [f"--{name}={value}" for name, value in flags.items()]
    )
    assert result.returncode == 0, result.stderr
    assert "released: 3 passes, scaled to 16" in result.stdout
    found = json.loads(path.read_text())
    assert {"whole", "half", "released", "draft"} <= set(found["seconds"])
    for name, times in found["seconds"].items():
        assert len(times) == 2 and min(times) > 0
        assert f"{name:16}{min(times):9.3f}" in result.stdout
    whole, half = (min(found["seconds"][n]) for n in ("whole", "half"))
    assert found["ratios"]["half_to_whole"] == pytest.approx(half / whole)
    # Both are nearly uniform: hardly a token of a draft is not accepted.
    assert 0.5 < found["acceptance"] <= 1
    assert 2 < found["tokens_per_pass"] <= 4
    assert f"acceptance{found['acceptance']:23.4f}" in result.stdout
    drawn = [(x["images"], x["tokens"]) for x in found["shapes"]]
    assert drawn == [(2, 4), (2, 16), (1, 4)]
    for shape in found["shapes"]:
        assert len(shape["seconds"]) == 2
        one = min(shape["seconds"]) * 1e6 / shape["images"] / shape["tokens"]
        assert f" {one:.1f} microseconds" in result.stdout
    assert (tmp_path / "sampling.png").stat().st_size > 10_000
    assert found["matmul_gflops"] > 0 and found["hardware_threads"] > 0
