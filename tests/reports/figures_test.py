import forked
import matplotlib.figure
import numpy as np
import tiny
from PIL import Image

import igpt_keras
from igpt_keras import reports


def test_pictures_show_the_colours(tmp_path):
    tokenizers = {
        "one": igpt_keras.PaletteTokenizer([[0.0, 1, 1], [0.2, -1, -1]]),
        "two": igpt_keras.PaletteTokenizer([[-1.0, -1, -1.0], [-1.0, 0.6, -1]]),
    }
    images = np.broadcast_to(np.uint8([0, 255, 0]), (12, 4, 4, 3))
    errors = {"one": 1.0, "two": 2.0}
    reports.draw_palettes(tmp_path, tokenizers, errors, images)
    path = tmp_path / "palette.png"
    rows = colour_rows(path)
    darker, brighter = rows[153, 0, 0], rows[128, 255, 255]
    assert darker[1].max() < brighter[1].min()
    assert rows[0, 204, 0][0].min() > darker[0].max()
    path = tmp_path / "samples.png"
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


def test_grids_stand_under_one_another_pixel_for_pixel(tmp_path):
    red = np.zeros((40, 30, 3), "uint8") + np.uint8([255, 0, 0])
    blue = np.zeros((20, 30, 3), "uint8") + np.uint8([0, 0, 255])
    reports.draw_grids(tmp_path / "x.png", {"red": red, "blue": blue})
    rows = colour_rows(tmp_path / "x.png")
    first, second = rows[255, 0, 0][0], rows[0, 0, 255][0]
    assert first.max() < second.min()
    heights = np.ptp(first), np.ptp(second)
    assert abs(heights[0] / heights[1] - 2) < 0.1
    wide = np.zeros((4, 3000, 3), "uint8")
    reports.draw_grids(tmp_path / "wide.png", {"wide": wide})
    with Image.open(tmp_path / "wide.png") as picture:
        assert picture.size[0] >= 3000


def test_reconstructions_stand_under_their_images(tmp_path):
    colours = {"original": (255, 0, 0), "ema": (0, 255, 0), "fsq": (0, 0, 255)}
    images = {
        name: np.zeros((3, 16, 16, 3), "uint8") + np.uint8(colour)
        for name, colour in colours.items()
    }
    quality = {"psnr": 1.0, "ssim": 0.5, "bits_per_pixel": 3.0}
    results = [
        {"quantizer": name, "active_codes": 7, **quality}
        for name in ("ema", "fsq")
    ]
    original = images.pop("original")
    reports.draw_reconstructions(tmp_path, original, images, results)
    rows = colour_rows(tmp_path / "reconstructions.png")
    places = [rows[colour][0] for colour in colours.values()]
    assert places[0].max() < places[1].min()
    assert places[1].max() < places[2].min()


def test_probe_curve_draws_every_probe_and_both_baselines(
    tmp_path, monkeypatch
):
    """The figure itself is asked, before it becomes a picture."""
    figures = []
    save = matplotlib.figure.Figure.savefig

    def keep(figure, *arguments, **others):
        figures.append(figure)
        return save(figure, *arguments, **others)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    probes = [
        {"layers": [0, 1], "accuracy": [0.3, 0.4], "step": 10},
        {"layers": [0, 1], "accuracy": [0.5, 0.6], "step": 20},
    ]
    metrics = {
        "probe": [
            {"layer": 0, "test_accuracy": 0.55},
            {"layer": 1, "test_accuracy": 0.65},
        ],
        "raw_pixels_test_accuracy": 0.2,
        "untrained_test_accuracy": 0.25,
        "chance": 0.125,
        "probe_images": 1234,
        "validation_images": 567,
        "test_images": 89,
    }
    reports.draw_probe_curve(tmp_path / "curve.png", probes, metrics)
    axes = figures[0].axes[0]
    lines = {
        tuple(np.atleast_1d(line.get_ydata()).round(3)): line
        for line in axes.lines
    }
    # In per cent; what is of test images is drawn apart.
    of_test = [(55, 65), (20, 20), (25, 25), (12.5, 12.5)]
    assert set(lines) == {(30, 40), (50, 60), *of_test}
    for values, line in lines.items():
        assert (line.get_linestyle() == "-") == (values not in of_test)
        name = "test" if values in of_test else "validation"
        assert line.get_label().endswith(name)
    assert "1,234 images; 567 of validation, 89 of test" in axes.get_title()
    assert "per cent" in axes.get_ylabel()
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_samples_and_completions_are_written(tmp_path):
    palette = np.linspace(-1, 1, 33).reshape(11, 3)
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    images = np.zeros((2, 4, 4, 3), "uint8")
    reports.draw_samples(tmp_path, tiny.model(), tokenizer, images)
    for name in ("samples", "completions"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 100


def test_no_backend_of_matplotlib_is_chosen(subprocess_environment, tmp_path):
    """In a process of its own: one that the user has chosen stays."""
    program = (
        "import sys, matplotlib\n"
        "matplotlib.use('svg')\n"
        "import igpt_keras\n"
        "import numpy as np\n"
        "grid = {'x': np.zeros((4, 4, 3), 'uint8')}\n"
        "igpt_keras.reports.draw_grids(sys.argv[1], grid)\n"
        "assert matplotlib.get_backend() == 'svg'\n"
    )
    result = forked.run(
        ["-c", program, tmp_path / "x.png"], env=subprocess_environment
    )
    assert result.returncode == 0, result.stderr[-2000:]
