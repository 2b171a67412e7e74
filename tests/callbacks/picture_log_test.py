import events
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras

pytest.importorskip("tensorflow")


def fit(model, callback, inputs, token_ids):
    model.compile("adam")
    model.fit(
        inputs,
        token_ids,
        batch_size=4,
        epochs=2,
        callbacks=[callback],
        verbose=0,
    )


def test_samples_and_completions_in_anybodys_fit(tmp_path):
    palette = np.linspace(-1, 1, 33).reshape(11, 3)
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    token_ids = tiny.token_ids(batch=8)
    images = array(tokenizer.detokenize(token_ids))
    log = igpt_keras.PictureLog(tmp_path, tokenizer, images, num_samples=5)
    fit(tiny.model(), log, token_ids, token_ids)
    found = events.read(tmp_path / "pictures")
    for name in ("samples", "completions"):
        # Optimizer steps: two batches an epoch.
        assert [step for step, _ in found[name]] == [2, 4]
        for _, value in found[name]:
            assert value[2].startswith(b"\x89PNG")


def test_bert_has_no_order_to_sample_in(tmp_path):
    token_ids, mask = tiny.token_ids(batch=8), tiny.mask(batch=8)
    log = igpt_keras.PictureLog(tmp_path, None, np.zeros((1, 4, 4, 3)))
    inputs = {"token_ids": token_ids, "mask": mask}
    fit(tiny.model("bert"), log, inputs, token_ids)
    assert events.read(tmp_path / "pictures") == {}
