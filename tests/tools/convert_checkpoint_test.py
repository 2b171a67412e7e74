import forked
import keras
import numpy as np
import pytest
import tiny
from conftest import ROOT
from tiny import array

import igpt_keras

pytest.importorskip("tensorflow")
import convert_checkpoint  # noqa: E402

PALETTE = np.linspace(-1, 1, 33).reshape(11, 3).astype("float32")


def run(*flags):
    return forked.run([ROOT / "tools" / "convert_checkpoint.py", *flags])


def test_round_the_three_formats(tmp_path):
    """keras, huggingface, keras, openai, keras: the weights are bit-equal."""
    model = tiny.model()
    model.save_to_preset(
        tmp_path / "0", tokenizer=igpt_keras.PaletteTokenizer(PALETTE)
    )
    path, kind = tmp_path / "0", "keras"
    for i, target in enumerate(["huggingface", "keras", "openai", "keras"], 1):
        output = tmp_path / f"{i}" / "m"
        difference = convert_checkpoint.convert(kind, target, path, output)
        assert difference == 0
        path, kind = output, target
    copy = igpt_keras.IGPT.from_preset(path)
    for old, new in zip(model.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(array(old), array(new))
    tokenizer = igpt_keras.PaletteTokenizer.from_preset(tmp_path / "2" / "m")
    np.testing.assert_array_equal(tokenizer.palette, PALETTE)


def test_classifiers_keep_their_head(tmp_path):
    classifier = igpt_keras.IGPTClassifier(tiny.model("bert"), num_classes=4)
    kernel = np.random.default_rng(0).normal(size=(15, 4)).astype("float32")
    classifier.class_head.kernel.assign(kernel)
    igpt_keras.save_openai_checkpoint(classifier, tmp_path / "m")
    for source, path, target in (
        ("openai", "m", "keras"),
        ("keras", "keras", "openai"),
    ):
        convert_checkpoint.convert(
            source, target, tmp_path / path, tmp_path / target
        )
    copy = igpt_keras.load_openai_checkpoint(tmp_path / "openai")
    np.testing.assert_array_equal(array(copy.class_head.kernel), kernel)


def test_notices_a_difference(tmp_path, monkeypatch):
    model = tiny.model()
    igpt_keras.save_openai_checkpoint(model, tmp_path / "m")

    def wrong(self, directory, tokenizer=None):
        kernel = self.blocks[0].attention.key.kernel
        kernel.assign(keras.ops.flip(kernel, axis=0))
        saved(self, directory, tokenizer)
        kernel.assign(keras.ops.flip(kernel, axis=0))

    saved = igpt_keras.IGPT.save_to_preset
    monkeypatch.setattr(igpt_keras.IGPT, "save_to_preset", wrong)
    with pytest.raises(ValueError, match="differ by .* Do not use it"):
        convert_checkpoint.convert(
            "openai", "keras", tmp_path / "m", tmp_path / "keras"
        )


def test_notices_nan(tmp_path, monkeypatch):
    tiny.model().save_to_preset(tmp_path / "keras")
    outputs = convert_checkpoint._outputs

    def broken(model):
        found = outputs(model)
        found["features"][0, 0, 0] = np.nan
        return found

    monkeypatch.setattr(convert_checkpoint, "_outputs", broken)
    with pytest.raises(ValueError, match="differ by nan"):
        convert_checkpoint.convert(
            "keras", "openai", tmp_path / "keras", tmp_path / "m"
        )


def test_refuses_another_format_and_existing_output(tmp_path):
    tiny.model().save_to_preset(tmp_path / "keras")
    with pytest.raises(ValueError, match="of the format keras, and --from"):
        convert_checkpoint.convert(
            "openai", "keras", tmp_path / "keras", tmp_path / "out"
        )
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="out exists"):
        convert_checkpoint.convert(
            "keras", "openai", tmp_path / "keras", tmp_path / "out"
        )


def test_command(tmp_path):
    igpt_keras.save_openai_checkpoint(tiny.model(), tmp_path / "m")
    np.save(tmp_path / "palette.npy", PALETTE)
    result = run(
        "--from=openai",
        "--to=huggingface",
        f"--input={tmp_path / 'm'}",
        f"--output={tmp_path / 'huggingface'}",
        f"--palette={tmp_path / 'palette.npy'}",
    )
    assert result.returncode == 0, result.stderr
    assert "largest difference" in result.stdout
    assert "11 colours" in result.stdout
    assert "29/29 - " in result.stdout
    igpt_keras.load_huggingface_palette(tmp_path / "huggingface")


def test_bad_input_is_a_sentence(tmp_path):
    result = run(
        "--from=openai",
        "--to=keras",
        f"--input={tmp_path}",
        f"--output={tmp_path / 'out'}",
    )
    assert result.returncode == 1
    assert "convert_checkpoint.py: " in result.stderr
    assert "holds no checkpoint" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
