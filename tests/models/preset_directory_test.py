import contextlib
import json
import os
import pathlib

import forked
import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras
from igpt_keras.models.resize_positions import resize_positions
from igpt_keras.storage import atomic_directory


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
    with pytest.raises(ValueError, match=r"holds other files \(chapter.txt\)"):
        first.save_to_preset(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_a_failing_save_keeps_the_old_preset(tmp_path):
    class FullDisk:
        vocabulary_size = 11

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


def test_a_full_disk_keeps_the_old_files(tmp_path, subprocess_environment):
    """Writes fail for real beyond 20 kB, for each format of ours and others."""
    model = tiny.model()
    model.save_to_preset(tmp_path / "preset")
    igpt_keras.save_huggingface(model, tmp_path / "huggingface")
    program = (
        "import resource, sys, pathlib, tiny, igpt_keras\n"
        "model, path = tiny.model(scale=0.1), pathlib.Path(sys.argv[1])\n"
        "saves = [\n"
        "    lambda: model.save_to_preset(path / 'preset'),\n"
        "    lambda: igpt_keras.save_huggingface(\n"
        "        model, path / 'huggingface'),\n"
        "]\n"
        "if sys.argv[2] == 'tensorflow':\n"
        "    saves.append(lambda: igpt_keras.save_openai_checkpoint(\n"
        "        model, path / 'm'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "for save in saves:\n"
        "    try:\n"
        "        save()\n"
        "    except OSError as error:\n"
        "        sys.stderr.write(f'as it should: {error}\\n')\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
    )
    backend = keras.backend.backend()
    result = forked.run(
        ["-c", program, str(tmp_path), backend], env=subprocess_environment
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stderr.count("as it should") >= 2
    for copy in (
        igpt_keras.IGPT.from_preset(tmp_path / "preset"),
        igpt_keras.load_huggingface(tmp_path / "huggingface"),
    ):
        for old, new in zip(model.weights, copy.weights, strict=True):
            np.testing.assert_array_equal(array(old), array(new))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"preset", "huggingface"}


def test_classifiers(tmp_path):
    classifier = igpt_keras.IGPTClassifier(
        tiny.model(), num_classes=4, generative_weight=0.5
    )
    classifier.class_head.kernel.assign(np.eye(15, 4))
    classifier.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.IGPTClassifier.from_preset(tmp_path / "preset")
    for old, new in zip(classifier.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(array(old), array(new))
    assert copy.generative_weight == 0.5
    trunk = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        array(trunk.head.kernel), array(classifier.igpt.head.kernel)
    )
    tiny.model().save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="holds no class head"):
        igpt_keras.IGPTClassifier.from_preset(tmp_path / "preset")


def test_position_table(tmp_path):
    model = tiny.model()
    model.save_to_preset(tmp_path / "preset")
    message = "16 positions and .*=36 .*interpolate_positions"
    with pytest.raises(ValueError, match=message):
        igpt_keras.IGPT.from_preset(tmp_path / "preset", sequence_length=36)
    resized = igpt_keras.IGPT.from_preset(
        tmp_path / "preset", sequence_length=36, interpolate_positions=True
    )
    assert resized.output_shape == (None, 36, 11)
    for old, new in zip(model.weights, resized.weights, strict=True):
        if old is model.embedding.position_embedding:
            expected = resize_positions(array(old), 36)
            np.testing.assert_array_equal(array(new), expected)
        else:
            np.testing.assert_array_equal(array(old), array(new))
    # Asking for the size it has is no change.
    igpt_keras.IGPT.from_preset(tmp_path / "preset", sequence_length=16)


def test_refuses_a_tokenizer_of_another_size(tmp_path):
    tokenizer = igpt_keras.PaletteTokenizer(np.eye(3))
    message = "11 tokens and tokenizer, a PaletteTokenizer, has 3"
    with pytest.raises(ValueError, match=message):
        tiny.model().save_to_preset(tmp_path / "preset", tokenizer=tokenizer)
    assert not (tmp_path / "preset").exists()


@pytest.mark.parametrize("kind", ["palette", "vq_vae"])
@pytest.mark.parametrize("with_model", [True, False])
def test_refuses_to_lose_a_tokenizer(kind, with_model, tmp_path):
    """Which may be nowhere else; beside a model, or saved alone."""
    tokenizer = tiny.grey_palette()
    if kind == "vq_vae":
        vq_vae = igpt_keras.VQVAE(8, 4, vocabulary_size=11)
        tokenizer = igpt_keras.VQVAETokenizer(vq_vae)
    path, model = tmp_path / "preset", tiny.model()
    if with_model:
        model.save_to_preset(path, tokenizer=tokenizer)
    else:
        path.mkdir()
        tokenizer.save_to_preset(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    for save in (
        lambda: tiny.model(scale=0.1).save_to_preset(path),
        lambda: igpt_keras.PresetWriter(model, path),
    ):
        with pytest.raises(ValueError, match="holds a tokenizer, which would"):
            save()
    assert {f.name: f.read_bytes() for f in path.iterdir()} == before
    model.save_to_preset(path, tokenizer=tokenizer)
    opened = type(tokenizer).from_preset(path)
    assert opened.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("swap", ["system call", "renames"])
def test_a_stop_at_any_rename_keeps_a_whole_preset(
    stop, swap, tmp_path, monkeypatch
):
    model = tiny.model()
    model.save_to_preset(tmp_path / "preset")
    if swap == "renames":

        def no_library(name):
            raise AttributeError

        monkeypatch.setattr(atomic_directory.ctypes, "CDLL", no_library)
    rename, calls = os.replace, []
    for failing in range(1, 5):
        calls.clear()

        def replace(old, new):
            calls.append(new)
            if len(calls) == failing:
                raise stop
            rename(old, new)

        monkeypatch.setattr(atomic_directory.os, "replace", replace)
        with contextlib.suppress(stop):
            model.save_to_preset(tmp_path / "preset")
        copy = igpt_keras.IGPT.from_preset(tmp_path / "preset")
        np.testing.assert_array_equal(
            array(copy.head.kernel), array(model.head.kernel)
        )
        assert [p.name for p in tmp_path.iterdir()] == ["preset"]
    # The first is of config.json, inside the directory that is filled.
    assert len(calls) == (1 if swap == "system call" else 3)


def test_links_and_permissions(tmp_path):
    model = tiny.model()
    model.save_to_preset(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    other = tiny.model(scale=0.1)
    other.save_to_preset(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    copy = igpt_keras.IGPT.from_preset(tmp_path / "real")
    np.testing.assert_array_equal(
        array(copy.head.kernel), array(other.head.kernel)
    )
    mask = os.umask(0o027)
    try:
        model.save_to_preset(tmp_path / "mine")
    finally:
        os.umask(mask)
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o750
    for file in (tmp_path / "mine").iterdir():
        assert file.stat().st_mode & 0o777 == 0o640


def test_a_directory_with_the_name_of_a_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.model().save_to_preset("igpt_nano")
    for path in ("./igpt_nano", pathlib.Path("igpt_nano")):
        assert igpt_keras.IGPT.from_preset(path).vocabulary_size == 11
    with pytest.raises(ValueError, match="Pass './igpt_nano'"):
        igpt_keras.IGPT.from_preset("igpt_nano")


def test_a_name_scope_is_not_saved(tmp_path):
    with keras.name_scope("somewhere"):
        model = tiny.model()
    model.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        array(copy.head.kernel), array(model.head.kernel)
    )


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
        (lambda p: (p / "config.json").write_text("[5]"), "is not a preset of"),
        (lambda p: edit_config(p, format=3), "preset format 3"),
        (lambda p: (p / "config.json").write_text("{}"), "is not a preset of"),
        (lambda p: edit_config(p, sha256=None), "is damaged: its sha256"),
        (
            lambda p: edit_config(
                p, model={**tiny.SIZE, "num_layers": 2, "objective": "bert"}
            ),
            "does not hold the weights of the model that config.json",
        ),
        (
            lambda p: edit_config(
                p,
                model={
                    **tiny.SIZE,
                    "sequence_length": 10**9,
                    "objective": "autoregressive",
                },
            ),
            "does not hold the weights of the model that config.json",
        ),
        (
            lambda p: edit_config(
                p,
                model={
                    **tiny.SIZE,
                    "num_heads": 5,
                    "objective": "autoregressive",
                },
            ),
            "does not hold the weights of the model that config.json",
        ),
        (lambda p: edit_config(p, classifier=5), "`classifier` is 5"),
        (lambda p: edit_config(p, model={}), "is damaged: `model` is"),
        (lambda p: (p / "model.safetensors").unlink(), "incomplete"),
    ],
)
def test_refuses_damaged_presets(damage, message, tmp_path):
    tiny.model().save_to_preset(tmp_path / "preset")
    damage(tmp_path / "preset")
    with pytest.raises(ValueError, match=message):
        igpt_keras.IGPT.from_preset(tmp_path / "preset")


def test_notices_a_flipped_bit(tmp_path):
    tiny.model().save_to_preset(tmp_path / "preset")
    path = tmp_path / "preset" / "model.safetensors"
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
