import re

import benchmark_probes
import forked
import numpy as np
from conftest import ROOT


def test_both_are_timed_and_agree():
    result = forked.run(
        [
            ROOT / "tools" / "benchmark_probes.py",
            "--layers=2",
            "--images=800",
            "--width=8",
        ]
    )
    assert result.returncode == 0, result.stderr
    assert "2 layers of 800 x 8 features" in result.stdout
    numbers = re.findall(r" ([\d.]+)(?: s)?$", result.stdout, re.MULTILINE)
    ours, theirs, ratio, difference = map(float, numbers)
    assert ours > 0 and theirs > 0 and ratio > 0
    assert difference <= 0.002


def test_features_can_be_told_apart():
    features, labels = benchmark_probes.make_features(2, 4000, 64)
    assert features.shape == (2, 4000, 64) and features.dtype == "float32"
    split = slice(1000, None), slice(None, 1000)
    train, test = ((features[:, part], labels[part]) for part in split)
    accuracies = benchmark_probes.probe_in_turn(train, test)
    assert (accuracies > 0.2).all() and (accuracies < 0.99).all()
    assert np.ptp(features.std(axis=(0, 1))) > 1
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(features[0].T))
    assert 1e4 < eigenvalues[-1] / eigenvalues[0] < 1e7
