"""The programs of docs/variants.md run as written, one after the other."""

import ast
import json
import re

import forked
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")

TEXT = (ROOT / "docs" / "variants.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)

# Of each block some steps, which take less than tracing them does.
CHECKS = """
import numpy as np, tiny
tf.config.run_functions_eagerly(True)
assert all(0 < value < np.log(17) for value in nats.values()), nats
small = dict(tiny.SIZE, num_heads=2, hidden_dim=16, num_layers=1)
prompt = tiny.token_ids(2)
blocks = GELUBlock, NormedBlock, RotaryBlock, RegisterBlock, MixingBlock
for block in blocks:
    model = igpt_keras.IGPT(**small, block=block)
    for variable in model.weights:
        values = np.random.default_rng(0).normal(size=variable.shape)
        variable.assign(values * 0.5)
    logits = ops.convert_to_numpy(model(prompt))
    later = np.concatenate([prompt[:, :9], 1 + 0 * prompt[:, 9:]], axis=1)
    seen = ops.convert_to_numpy(model(later))
    np.testing.assert_allclose(seen[:, :10], logits[:, :10], atol=1e-4)
    model.save_to_preset("own")
    copy, _ = igpt_keras.open_weights("own")
    assert type(copy.blocks[0]) is block
    opened = ops.convert_to_numpy(copy(prompt))
    np.testing.assert_allclose(opened, logits, atol=1e-5)
    plain = igpt_keras.IGPT(**small)
    if block is GELUBlock:
        plain.set_weights(model.get_weights())
        assert np.abs(ops.convert_to_numpy(plain(prompt)) - logits).max() > 1e-3
    if block is MixingBlock:
        try:
            igpt_keras.sample(model, 1)
        except ValueError as error:
            assert "MixingBlock" in str(error) and "prefill" in str(error)
        else:
            raise SystemExit("sampled without a decode")
        continue
    if block is RegisterBlock:
        # Four, which are trained, move all positions, and are none of them.
        registers = model.blocks[0].attention.registers
        before = ops.convert_to_numpy(registers)
        model.compile(keras.optimizers.SGD(1.0))
        model.train_on_batch(prompt)
        moved = np.abs(ops.convert_to_numpy(registers) - before).max(-1)
        assert before.shape == (1, 4, 16) and (moved > 0).all()
        now = ops.convert_to_numpy(model(prompt))
        assert now.shape == logits.shape
        model.set_weights(copy.get_weights())
        registers.assign(registers * 2)
        others = ops.convert_to_numpy(model(prompt))
        assert (np.abs(others - logits).max(-1) > 1e-4).all()
        read, _ = igpt_keras.extract_features(model, [(prompt, [0, 1])])
        x = model.embedding(prompt)
        x = ops.mean(model.blocks[0].attention_norm(x), axis=1)
        np.testing.assert_allclose(read[0], x, atol=1e-5)
    drawn = igpt_keras.sample(model, 4, temperature=0)
    scores = ops.convert_to_numpy(model(drawn))
    chosen = np.take_along_axis(scores, drawn[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, scores.max(-1), atol=1e-3)
assert features.shape == (3, len(token_ids), 32)
assert decoded.shape == (2, 64)
assert 0 <= decoded.min() and decoded.max() < 17
assert 0 < loss < np.log(17)
rotary = RotaryAttention(4, 2)
rotary.build((None, 64, 32))
vector = np.ones((1, 64, 4, 8), "float32")
turned, other = rotary.prepare(vector, vector, ops.arange(64))
products = ops.convert_to_numpy(ops.einsum("bnhk,bmhk->nm", turned, other))
# Of equal vectors the product depends on how far rows and columns are apart.
np.testing.assert_allclose(products[0, 9], products[27, 36], rtol=1e-5)
np.testing.assert_allclose(products[3, 17], products[10, 24], rtol=1e-5)
assert abs(products[0, 9] - products[0, 18]) > 0.1
"""


def test_variants_are_short():
    classes = [
        node
        for block in BLOCKS
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ClassDef)
    ]
    assert len(classes) >= 6
    for node in classes:
        lines = node.end_lineno - node.lineno + 1
        assert lines <= 15, (node.name, lines)


@pytest.mark.compiled
def test_programs_run(tmp_path, subprocess_environment):
    result = forked.run(
        ["-c", "\n".join([*BLOCKS, CHECKS])],
        cwd=tmp_path,
        env=subprocess_environment,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    runs = tmp_path / "runs" / "variants"
    saved = {
        name: json.loads((runs / name / "config.json").read_text())["model"]
        for name in ("rotary", "smoothed")
    }
    assert saved["rotary"]["block"] == "mine>RotaryBlock"
    assert saved["smoothed"]["class"] == "mine>SmoothedIGPT"
    assert saved["smoothed"]["arguments"] == {"smoothing": 0.1}
