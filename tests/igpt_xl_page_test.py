"""The numbers of `docs/igpt_xl.md` are those of `presets.py`."""

import re

import pytest
from conftest import ROOT

from igpt_keras import presets

SIZE = {**presets.IGPT["igpt_xl"], "sequence_length": 64**2}


def test_bytes_per_device():
    text = (ROOT / "docs" / "igpt_xl.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\S+) \| (\S+) \| (\S+) \|$", text, re.M)
    assert [int(row[0]) for row in rows] == [1, 2, 4, 8, 16, 32]
    layers, width = SIZE["num_layers"], SIZE["hidden_dim"]
    tokens = SIZE["sequence_length"]
    weights = presets.count_parameters(**SIZE)
    whole = (tokens + 2 * layers + 2) * width
    logits = 3 * SIZE["vocabulary_size"]
    for devices, *found in rows:
        block = 8 * width + 16 * width / int(devices)
        expected = (
            16 * (whole + (weights - whole) / int(devices)),
            4 * tokens * (layers * block + logits),
            4 * tokens * (layers * width + block + logits),
        )
        numbers = [float(number) for number in found]
        assert numbers == pytest.approx([x / 1e9 for x in expected], abs=0.051)
    size = {key: SIZE[key] for key in SIZE if key != "num_heads"}
    flops = presets.count_training_flops(**size, batch_size=64)
    assert f"{flops:.1e}".replace("e+", "e") in text
