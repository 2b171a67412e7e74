import importlib

import numpy as np
import pytest
import recipe
import tiny
from PIL import Image
from tiny import array

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402

fill = importlib.import_module("igpt_keras.generation.fill_pictures")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny.save_preset(tmp_path_factory.mktemp("model") / "preset")


@pytest.fixture
def prompts(tmp_path):
    return tiny.save_pictures(tmp_path / "mine")


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_samples(preset, tmp_path, capsys):
    flags = {"model": preset, "output": tmp_path / "deep" / "out"}
    recipe.run("sample", **flags, num_samples=3, temperature=0.5, seed=4)
    names = {path.name for path in flags["output"].iterdir()}
    singles = [f"sample_00{i}.png" for i in range(3)]
    assert names == {"samples.png", *singles}
    grid = pixels_of(flags["output"] / "samples.png")
    # Enlarged by whole pixels: a white line, then the first picture.
    scale = grid.shape[0] // 6
    assert grid.shape[1] >= 512
    for i, name in enumerate(singles):
        picture = pixels_of(flags["output"] / name)
        assert picture.shape == (4, 4, 3)
        corner = grid[scale:, (1 + 5 * i) * scale :]
        shown = corner[: 4 * scale : scale, : 4 * scale : scale]
        np.testing.assert_array_equal(shown, picture)
    assert "3 pictures drawn by the model" in capsys.readouterr().out


def test_completions(preset, prompts, tmp_path, capsys):
    """By the flags that `complete` has, written as they are."""
    flags = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 3}
    recipe.run(
        "sample",
        model=preset,
        prompt=[prompts, prompts / "one.png"],
        keep="left",
        completions=2,
        animate=True,
        output=tmp_path / "out",
        **flags,
    )
    files = [prompts / f"{name}.png" for name in ("one", "two", "one")]
    expected = igpt_keras.complete(
        *igpt_keras.open_weights(preset), files, "left", 2, **flags
    )
    names = {"completions.png"}
    for i, name in enumerate(("one", "two", "one_2")):
        names.add(f"animation_{name}.gif")
        for j in range(2):
            names.add(f"completion_{name}_{j}.png")
            found = pixels_of(tmp_path / "out" / f"completion_{name}_{j}.png")
            np.testing.assert_array_equal(found, expected[i, j])
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    # One for each of eight tokens that are drawn, and one before. (Frames
    # that are alike are one.)
    with Image.open(tmp_path / "out" / "animation_one.gif") as animation:
        assert 2 < animation.n_frames <= 9
    printed = capsys.readouterr().out
    assert "animation_one.gif" in printed and "the original" in printed
    assert "tokens_per_second" in printed and "images_per_second" in printed


def test_a_draft_is_counted(preset, prompts, tmp_path, capsys):
    flags = {"draft": preset, "draft_tokens": 3, "seed": 5}
    recipe.run(
        "sample",
        model=preset,
        num_samples=2,
        prompt=prompts,
        completions=1,
        output=tmp_path / "out",
        **flags,
    )
    # It is the model: 4 tokens a pass, of 16, and of the 8 of a half.
    printed = capsys.readouterr().out
    assert printed.count("acceptance: 1.0000 - tokens_per_pass: 4.0000") == 2
    model, tokenizer = igpt_keras.open_weights(preset)
    files = [prompts / "one.png", prompts / "two.png"]
    expected = igpt_keras.complete(
        model,
        tokenizer,
        files,
        num_completions=1,
        seed=5,
        draft=model,
        draft_tokens=3,
    )
    for name, pictures in zip(("one", "two"), expected):
        found = pixels_of(tmp_path / "out" / f"completion_{name}_0.png")
        np.testing.assert_array_equal(found, pictures[0])


def test_a_draft_of_other_tokens_is_refused(preset, tmp_path):
    colours = np.linspace(-0.5, 0.5, 33).reshape(11, 3)
    other = igpt_keras.PaletteTokenizer(colours)
    tiny.model().save_to_preset(tmp_path / "palette", tokenizer=other)
    tiny.model(order="columns").save_to_preset(tmp_path / "order")
    flags = {"model": preset, "output": tmp_path / "out"}
    for name, message in (
        ("palette", "another tokenizer than the model's"),
        ("order", "order='raster' and draft 'columns'"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe.run("sample", **flags, draft=tmp_path / name)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def temperatures(monkeypatch):
    """Those that are drawn at, of a model that draws black."""
    found = []

    def sample(model, num_samples, prompt, temperature, **others):
        found.append((num_samples, temperature))
        return np.zeros((num_samples, 16), "int32")

    monkeypatch.setattr(fill, "sample", sample)
    return found


def test_defaults(preset, prompts, temperatures, tmp_path):
    flags = {"model": preset, "output": tmp_path / "out"}
    recipe.run("sample", **flags)
    assert temperatures == [(16, 1.0)]
    # With a prompt no samples, unless they are asked for.
    recipe.run("sample", **flags, prompt=prompts)
    assert temperatures[1:] == [(8, 1.0)]
    recipe.run("sample", **flags, prompt=prompts, num_samples=2)
    assert temperatures[2:] == [(2, 1.0), (8, 1.0)]


def test_a_vq_vaes_temperature_is_the_papers(temperatures, tmp_path):
    vq_vae = igpt_keras.VQVAE(
        input_resolution=8, model_resolution=4, vocabulary_size=11
    )
    tokenizer = igpt_keras.VQVAETokenizer(vq_vae)
    tiny.model().save_to_preset(tmp_path / "preset", tokenizer)
    flags = {"model": tmp_path / "preset", "output": tmp_path / "out"}
    recipe.run("sample", **flags, num_samples=1)
    recipe.run("sample", **flags, num_samples=1, temperature=0.5)
    assert temperatures == [(1, 0.98), (1, 0.5)]
    token_ids = np.zeros((1, 16), "int32")
    (expected,) = array(tokenizer.detokenize(token_ids))
    found = pixels_of(tmp_path / "out" / "sample_000.png")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"prompt": "notes.png"}, "notes.png cannot be read as a picture"),
        ({"prompt": "empty"}, "No pictures in .*empty"),
        ({"prompt": "nowhere"}, "No picture at .*nowhere"),
        ({"model": "bare"}, "no tokenizer with it"),
        ({"model": "nowhere"}, "No model at"),
        ({"output": "notes.png"}, "--output cannot be written"),
        ({"output": "notes.png/out"}, "--output cannot be written"),
        ({"keep": "right"}, "keep must be"),
    ],
)
def test_bad_input_is_a_sentence(changes, message, preset, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    tiny.model().save_to_preset(tmp_path / "bare")
    paths = {
        name: value if name == "keep" else tmp_path / value
        for name, value in changes.items()
    }
    flags = {"model": preset, "output": tmp_path / "out", **paths}
    with pytest.raises(ValueError, match=message):
        recipe.run("sample", **flags)
    # Nothing is left of what went wrong.
    assert not (tmp_path / "out").exists()
