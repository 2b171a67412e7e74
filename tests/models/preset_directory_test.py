import json

import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_round_trip_with_tokenizer(objective, tmp_path):
    model = tiny.model(objective)
    palette = np.linspace(-1, 1, 33).reshape(11, 3).astype("float32")
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    directory = tmp_path / "deep" / "preset"
    model.save_to_preset(directory, tokenizer=tokenizer)
    copy = igpt_keras.IGPT.from_preset(directory)
    for old, new in zip(model.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(array(old), array(new))
    assert copy.objective == objective
    opened = igpt_keras.PaletteTokenizer.from_preset(directory)
    np.testing.assert_array_equal(opened.palette, palette)
    assert list(directory.parent.iterdir()) == [directory]


def test_replaces_a_preset_and_nothing_else(tmp_path):
    first, second = tiny.model(), tiny.model(scale=0.1)
    first.save_to_preset(tmp_path / "preset")
    second.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        array(copy.head.kernel), array(second.head.kernel)
    )
    assert [p.name for p in tmp_path.iterdir()] == ["preset"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a preset"):
        first.save_to_preset(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_a_failing_save_keeps_the_old_preset(tmp_path):
    class FullDisk:
        def save_to_preset(self, directory):
            raise OSError(28, "No space left on device")

    model = tiny.model()
    model.save_to_preset(tmp_path / "preset")
    with pytest.raises(OSError, match="No space left"):
        tiny.model(scale=0.1).save_to_preset(
            tmp_path / "preset", tokenizer=FullDisk()
        )
    copy = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        array(copy.head.kernel), array(model.head.kernel)
    )
    assert [p.name for p in tmp_path.iterdir()] == ["preset"]


def test_refuses_weights_that_are_not_finite(tmp_path):
    model = tiny.model()
    model.head.kernel.assign(np.full((15, 11), np.nan))
    with pytest.raises(ValueError, match="head/kernel is not finite"):
        model.save_to_preset(tmp_path / "preset")
    assert not list(tmp_path.iterdir())


def test_unknown_presets_list_the_known_ones(tmp_path):
    for name in ("igpt_huge", str(tmp_path)):
        with pytest.raises(ValueError, match="igpt_nano, .*igpt_xl"):
            igpt_keras.IGPT.from_preset(name)


def edit_config(path, **changes):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda p: (p / "config.json").write_text("{"), "is damaged"),
        (lambda p: (p / "config.json").write_text("[]"), "is damaged"),
        (lambda p: edit_config(p, format=2), "preset format 2"),
        (lambda p: edit_config(p, model={}), "is damaged: `model` has"),
        (lambda p: (p / "model.weights.h5").unlink(), "incomplete"),
    ],
)
def test_refuses_damaged_presets(damage, message, tmp_path):
    tiny.model().save_to_preset(tmp_path / "preset")
    damage(tmp_path / "preset")
    with pytest.raises(ValueError, match=message):
        igpt_keras.IGPT.from_preset(tmp_path / "preset")


def test_notices_a_flipped_bit(tmp_path):
    tiny.model().save_to_preset(tmp_path / "preset")
    path = tmp_path / "preset" / "model.weights.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its sha256"):
        igpt_keras.IGPT.from_preset(tmp_path / "preset")


def test_overrides(tmp_path):
    tiny.model().save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match=r"\['num_layers'\] cannot be"):
        igpt_keras.IGPT.from_preset(tmp_path / "preset", num_layers=2)
    named = igpt_keras.IGPT.from_preset(
        "igpt_nano", vocabulary_size=7, sequence_length=9
    )
    assert named.output_shape == (None, 9, 7)
    typed = igpt_keras.IGPT.from_preset(
        tmp_path / "preset", dtype="mixed_bfloat16"
    )
    assert typed.blocks[0].compute_dtype == "bfloat16"
