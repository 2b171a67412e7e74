"""The cells of docs/first_run.py run as written, on fewer steps."""

import dataclasses
import re

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")

TEXT = (ROOT / "docs" / "first_run.py").read_text()


def cells():
    """Code of each cell that is not Markdown."""
    parts = re.split(r"^# %%(.*)$", TEXT, flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [code for kind, code in pairs if "[markdown]" not in kind]


def test_cells_run(monkeypatch):
    """Of 128 images in a network of two layers, for two epochs."""
    import igpt_keras

    load = igpt_keras.data.load_examples

    def load_few(*args, **kwargs):
        examples = load(*args, **kwargs)
        few = {k: getattr(examples, k)[:128] for k in ("images", "labels")}
        return dataclasses.replace(examples, **few)

    monkeypatch.setattr(igpt_keras.data, "load_examples", load_few)
    text = "\n".join(cells())
    for whole, small in (
        ("epochs = 15", "epochs = 2"),
        ("num_layers=4", "num_layers=2"),
        ("every=5", "every=1"),
    ):
        assert text.count(whole) == 1
        text = text.replace(whole, small)
    names = {}
    exec(compile(text, "first_run.py", "exec"), names)
    names["plt"].close("all")
    assert len(names["history"].history["val_loss"]) == 2
    assert [record["step"] for record in names["probe"].history] == [2, 4]
    lines = names["right"].get_lines()
    assert [list(line.get_xdata()) for line in lines] == [[0, 1, 2]] * 2
    assert names["completions"].shape == (4, 4, 8, 8, 3)
    rows, originals = names["rows"].reshape(4, 6, 8, 8, 3), names["originals"]
    np.testing.assert_array_equal(rows[:, 5], originals)
    upper = np.broadcast_to(originals[:, None, :4], (4, 4, 4, 8, 3))
    np.testing.assert_array_equal(rows[:, 1:5, :4], upper)
    assert names["completed"].width >= 512


def test_is_a_notebook():
    jupytext = pytest.importorskip("jupytext")
    notebook = jupytext.reads(TEXT, fmt="py:percent")
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds.count("code") == len(cells()) >= 5
    assert kinds[0] == "markdown"
