import json
import signal
import time

import forked
import numpy as np
import pytest
import recipe
from absl import flags
from PIL import Image

import igpt_keras

pytest.importorskip("tensorflow")

from igpt_keras.tokenizers import colour_histogram  # noqa: E402

FLAGS = {
    "dataset": "digits",
    "vocabulary_size": 6,
    "pixels": 64 * 300,
    "prior_images": 0,
    "evaluation_images": 150,
}


def train(run_dir, **changes):
    return recipe.run(
        "train_palette", **{**FLAGS, "run_dir": run_dir, **changes}
    )


def crops(split, count, resolution=8):
    """What training sees of digits with seed 0."""
    dataset = igpt_keras.data.image_dataset(
        "digits", split, resolution, count, training=True
    )
    return next(dataset.as_numpy_iterator())[0]


def write_palette(path, colours):
    np.save(path, np.asarray(colours) / 127.5 - 1)
    return str(path)


def brute_force_error(images, palette):
    """Every pixel beside every colour, rounded as pictures are."""
    pixels = images.reshape(-1, 1, 3).astype("float64")
    centres = 127.5 * (palette.astype("float64") + 1)
    chosen = ((pixels - centres) ** 2).sum(-1).argmin(axis=1)
    return np.mean((pixels[:, 0] - np.rint(centres)[chosen]) ** 2)


def test_palette_is_that_of_fit_on_the_same_pixels(tmp_path):
    train(tmp_path)
    expected = igpt_keras.PaletteTokenizer.fit(crops("train", 300), 6)
    palette = np.load(tmp_path / "palette.npy")
    assert palette.dtype == np.float32 and palette.shape == (6, 3)
    np.testing.assert_allclose(palette, expected.palette, atol=1e-6)
    luminance = palette @ [0.299, 0.587, 0.114]
    assert (np.diff(luminance) > 0).all()


def test_seeded_and_measured_on_the_same_images(tmp_path):
    """Whatever the seed, the images to measure on are these."""
    images = crops("validation", 150)
    palettes = {}
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        metrics = train(tmp_path / name, seed=seed, prior_images=30)
        palettes[name] = np.load(tmp_path / name / "palette.npy")
        error = metrics["palettes"][0]["mean_squared_error"]
        expected = brute_force_error(images, palettes[name])
        np.testing.assert_allclose(error, expected, rtol=1e-12)
    np.testing.assert_array_equal(palettes["one"], palettes["same"])
    assert (palettes["one"] != palettes["other"]).any()


def test_beats_random_colours_of_the_same_images(tmp_path):
    generator = np.random.default_rng(0)
    levels = generator.choice(np.rint(np.arange(17) * 255 / 16), 6, False)
    greys = np.repeat(levels[:, None], 3, axis=1)
    path = write_palette(tmp_path / "random.npy", greys)
    metrics = train(tmp_path / "run", compare=path)
    trained, random = metrics["palettes"]
    assert random["name"] == "random.npy"
    assert trained["mean_squared_error"] < 0.8 * random["mean_squared_error"]
    expected = brute_force_error(crops("validation", 150), np.load(path))
    np.testing.assert_allclose(random["mean_squared_error"], expected)
    errors = [x["mean_squared_error"] for x in metrics["k_means"]]
    assert errors == sorted(errors, reverse=True)


def test_more_images_than_a_batch_and_the_test_split(tmp_path):
    metrics = train(
        tmp_path / "run", evaluation_split="test", evaluation_images=300
    )
    palette = np.load(tmp_path / "run" / "palette.npy")
    expected = brute_force_error(crops("test", 300), palette)
    found = metrics["palettes"][0]["mean_squared_error"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_fewer_colours_than_asked_for(tmp_path, capsys):
    """Exactly those: a prior would add what the images do not have."""
    metrics = train(tmp_path / "run", vocabulary_size=64, prior_images=30)
    assert "17 colours occur: they are the palette." in capsys.readouterr().out
    palette = metrics["palettes"][0]
    assert palette["vocabulary_size"] == 17
    assert palette["mean_squared_error"] == 0
    assert metrics["k_means"] == []
    assert metrics["distinct_colours"] == 17


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pixels": 5}, "pixels=5, .*fewer pixels than colours"),
        ({"dataset": "digit"}, "Unknown dataset 'digit'"),
        ({"compare": "nowhere.npy"}, "No palette at 'nowhere.npy'"),
        ({"compare": __file__}, "is no palette"),
        ({"run_dir": __file__}, "--run_dir cannot be written"),
        ({"run_dir": "pretraining"}, "holds a pretraining run"),
        ({"dataset": "npy:tokens"}, "holds tokens already, and images"),
    ],
)
def test_bad_input_ends_before_the_work(
    changes, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(colour_histogram, "count_colours", None)
    (tmp_path / "pretraining" / "checkpoints").mkdir(parents=True)
    for split in ("trX", "vaX", "teX"):
        np.save(tmp_path / f"tokens_{split}.npy", np.zeros((3, 1024), int))
    with pytest.raises((ValueError, flags.Error), match=message):
        train(**{"run_dir": "run", **changes})


def test_command(tmp_path):
    other = write_palette(tmp_path / "other.npy", [[0, 0, 0], [200, 200, 200]])
    result = recipe.command(
        "train_palette",
        "--dataset=digits",
        "--vocabulary_size=5",
        "--pixels=20000",
        "--evaluation_images=100",
        f"--compare={other}",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    run_dir = tmp_path / "runs" / "palette"
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for palette, size in zip(metrics["palettes"], (5, 2), strict=True):
        assert palette["vocabulary_size"] == size
        assert f"{palette['mean_squared_error']:.3f}   {size} colours" in (
            result.stdout
        )
    assert "20000/20000" in result.stdout and "/50" in result.stdout
    assert igpt_keras.PaletteTokenizer(run_dir / "palette.npy").palette.shape
    assert sorted(path.name for path in run_dir.iterdir()) == [
        "metrics.json",
        "palette.npy",
        "palette.png",
        "samples.png",
    ]
    for name in ("palette", "samples"):
        with Image.open(run_dir / f"{name}.png") as picture:
            assert min(picture.size) > 100


def test_bad_input_is_a_sentence(tmp_path):
    words = ["--dataset=digits", "--compare=nowhere.npy"]
    result = recipe.command("train_palette", *words, cwd=tmp_path)
    assert result.returncode == 1
    assert "train_palette.py: No palette at 'nowhere.npy'" in result.stderr
    assert "Traceback" not in result.stderr


def test_stopped_ends_with_130(tmp_path):
    process = forked.Process(
        recipe.program_of(
            "train_palette", "--dataset=digits", "--pixels=1000000000"
        ),
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 120
    while "Counting" not in process.output():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert "Traceback" not in output + errors
    assert not (tmp_path / "runs" / "palette" / "palette.npy").exists()


@pytest.mark.large
def test_as_good_as_openai_on_imagenet(shared, tmp_path):
    metrics = train(
        tmp_path,
        dataset="imagenet2012",
        data_dir=str(shared / "data" / "tfds"),
        vocabulary_size=512,
        pixels=200_000,
        iterations=10,
        prior_images=30,
        compare=str(shared / "data" / "openai_palette" / "kmeans_centers.npy"),
        evaluation_images=200,
    )
    trained, openai = (x["mean_squared_error"] for x in metrics["palettes"])
    assert trained <= openai
