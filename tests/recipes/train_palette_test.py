import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from tiny import array

import igpt_keras

pytest.importorskip("tensorflow")
import palette_training  # noqa: E402

SETTINGS = {
    "dataset": "digits",
    "data_dir": None,
    "skip_bad_images": False,
    "input_resolution": None,
    "vocabulary_size": 6,
    "pixels": 64 * 300,
    "iterations": 50,
    "prior_images": 0,
    "seed": 0,
    "compare": None,
    "evaluation_split": "validation",
    "evaluation_images": 150,
}


def train(run_dir, **changes):
    return palette_training.run(
        {**SETTINGS, "run_dir": str(run_dir), **changes}
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


def test_counts_every_pixel_once():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, 4, 4, 3)).astype("uint8")
    images[::3] = [255, 0, 1]
    for batch_size in (7, 30):
        batches = [
            (images[i : i + batch_size], None) for i in range(0, 30, batch_size)
        ]
        # Ends within an image.
        histogram = palette_training.count_colours(batches, 401)
        # As large whatever is counted.
        assert histogram.shape == (2**24,) and histogram.nbytes == 2**27
        colours, counts = palette_training.distinct_colours(histogram)
        expected = np.unique(
            images.reshape(-1, 3)[:401], axis=0, return_counts=True
        )
        np.testing.assert_array_equal(colours, expected[0])
        np.testing.assert_array_equal(counts, expected[1])
        assert colours.dtype == np.uint8 and counts.sum() == 401


def test_prior_spreads_a_share():
    histogram = np.zeros(2**24, "int64")
    grey, red = 0x808080, 0xFF0000
    histogram[[grey, red]] = [30, 10]
    smooth = palette_training.add_prior(histogram, 0.25, seed=1)
    assert np.isclose(smooth.sum(), 40)
    # Of the noise a hundred-thousandth comes back to the colour itself.
    np.testing.assert_allclose(smooth[[grey, red]], [22.5, 7.5], rtol=1e-3)
    colours, weights = palette_training.distinct_colours(smooth)
    moved = colours.astype(int) - 128
    near_grey = (np.abs(moved).max(axis=1) < 110) & moved.any(axis=1)
    for channel in moved[near_grey].T:
        variance = np.average(channel**2, weights=weights[near_grey])
        # A little more than 24: some of red's neighbours are among them.
        assert abs(np.sqrt(variance) - 24) < 1
    again = palette_training.add_prior(histogram, 0.25, seed=1)
    np.testing.assert_array_equal(smooth, again)
    other = palette_training.add_prior(histogram, 0.25, seed=2)
    assert (smooth != other).any()


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


def test_pictures_show_the_colours(tmp_path):
    tokenizers = {
        "one": igpt_keras.PaletteTokenizer([[0.0, 1, 1], [0.2, -1, -1]]),
        "two": igpt_keras.PaletteTokenizer([[-1.0, -1, -1.0], [-1.0, 0.6, -1]]),
    }
    images = np.broadcast_to(np.uint8([0, 255, 0]), (12, 4, 4, 3))
    samples = {"original": images}
    for name, tokenizer in tokenizers.items():
        samples[name] = array(tokenizer.detokenize(tokenizer(images)))
    path = tmp_path / "palette.png"
    palette_training.draw_palettes(path, tokenizers)
    rows = colour_rows(path)
    darker, brighter = rows[153, 0, 0], rows[128, 255, 255]
    assert darker[1].max() < brighter[1].min()
    assert rows[0, 204, 0][0].min() > darker[0].max()
    path = tmp_path / "samples.png"
    errors = {"one": 1.0, "two": 2.0}
    palette_training.draw_samples(path, tokenizers, errors, samples)
    rows = colour_rows(path)
    first, second, third = (
        rows[colour][0]
        for colour in ((0, 255, 0), (128, 255, 255), (0, 204, 0))
    )
    assert first.max() < second.min() and second.max() < third.min()


def colour_rows(path):
    """Rows and columns of each colour that fills a part of a picture."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 100 and pixels.shape[1] > 500
    colours, counts = np.unique(
        pixels.reshape(-1, 3), axis=0, return_counts=True
    )
    return {
        tuple(colour.tolist()): np.nonzero((pixels == colour).all(axis=-1))
        for colour, count in zip(colours, counts)
        if count > 100
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pixels": 5}, "--pixels=5 cannot give --vocabulary_size=6"),
        ({"dataset": "digit"}, "Unknown dataset 'digit'"),
        ({"compare": "nowhere.npy"}, "No palette at 'nowhere.npy'"),
        ({"compare": __file__}, "is no palette"),
        ({"run_dir": __file__}, "--run_dir cannot be written"),
        ({"run_dir": "pretraining"}, "holds a pretraining run"),
        ({"dataset": "npy:tokens"}, "holds tokens, which have a palette"),
    ],
)
def test_bad_input_ends_before_the_work(
    changes, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(palette_training, "count_colours", None)
    (tmp_path / "pretraining" / "checkpoints").mkdir(parents=True)
    for split in ("trX", "vaX", "teX"):
        np.save(tmp_path / f"tokens_{split}.npy", np.zeros((3, 1024), int))
    with pytest.raises(ValueError, match=message):
        palette_training.run({**SETTINGS, "run_dir": "run", **changes})


def command(*flags):
    return [sys.executable, str(ROOT / "recipes" / "train_palette.py"), *flags]


def test_command(tmp_path):
    other = write_palette(tmp_path / "other.npy", [[0, 0, 0], [200, 200, 200]])
    result = subprocess.run(
        command(
            "--dataset=digits",
            "--vocabulary_size=5",
            "--pixels=20000",
            "--evaluation_images=100",
            f"--compare={other}",
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
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
    result = subprocess.run(
        command("--dataset=digits", "--compare=nowhere.npy"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "train_palette.py: No palette at 'nowhere.npy'" in result.stderr
    assert "Traceback" not in result.stderr


def test_stopped_ends_with_130(tmp_path):
    process = subprocess.Popen(
        command("--dataset=digits", "--pixels=1000000000"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Counting" in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130, "".join(lines)
    assert "Traceback" not in "".join(lines)
    assert not (tmp_path / "runs" / "palette" / "palette.npy").exists()


def test_as_good_as_openai_on_imagenet(shared, tmp_path):
    metrics = train(
        tmp_path,
        dataset="imagenet2012",
        data_dir=str(shared / "data" / "tfds"),
        vocabulary_size=512,
        pixels=500_000,
        iterations=10,
        prior_images=30,
        compare=str(shared / "data" / "openai_palette" / "kmeans_centers.npy"),
        evaluation_images=500,
    )
    trained, openai = (x["mean_squared_error"] for x in metrics["palettes"])
    assert trained <= openai
