"""Files of what a model drew."""

import pathlib

import numpy as np
from PIL import Image

from igpt_keras.reports.pictures import COMPLETION_COLUMNS
from igpt_keras.reports.pictures import completion_rows
from igpt_keras.reports.pictures import enlarge
from igpt_keras.reports.pictures import tile
from igpt_keras.storage.atomic_file import atomic_file

# Frames of an animation at most, and milliseconds of each and of the last.
_FRAMES = 64
_SHORT, _LONG = 80, 2000
_FILLING = "the same, filling in"


def write_samples(directory, samples, side, animate=False, order=None):
    """Writes `samples.png`, a grid, and `sample_000.png` and so on.

    The grid is enlarged, pixels repeated; the others have their true size.

    Args:
        directory: path.
        samples: uint8 `(S, R, R, 3)`.
        side: int. Side of the grid of tokens.
        animate: bool. Whether to write `animation.gif` too, of the grid.
            Defaults to `False`.
        order: int array, as for `filling`.

    Returns:
        dict of what they are by name of the file.
    """
    directory = pathlib.Path(directory)
    columns = min(8, len(samples))
    _write_png(directory / "samples.png", enlarge(tile(samples, columns)))
    for i, sample in enumerate(samples):
        _write_png(directory / f"sample_{i:03}.png", sample)
    what = "drawn by the model, none chosen or left out"
    files = {
        "samples.png": f"{len(samples)} pictures {what}",
        "sample_000.png": _true_size(len(samples), samples.shape[1]),
    }
    if animate:
        given = np.zeros((side, side), "bool")
        frames = filling(samples, given, order)
        _write_gif(directory / "animation.gif", frames, columns)
        files["animation.gif"] = _FILLING
    return files


def write_pictures(directory, pictures):
    """Writes `picture_000.png` and so on, in their true size.

    Args:
        directory: path.
        pictures: uint8 `(P, R, R, 3)`.

    Returns:
        dict of what they are by name of the file.
    """
    directory = pathlib.Path(directory)
    for i, picture in enumerate(pictures):
        _write_png(directory / f"picture_{i:03}.png", picture)
    return {"picture_000.png": _true_size(len(pictures), pictures.shape[1])}


def write_completions(
    directory, names, pictures, completions, given, animate=False, order=None
):
    """Writes `completions.png`, a row a picture, and `completion_NAME_0.png`.

    The grid is enlarged, pixels repeated; the others have their true size.

    Args:
        directory: path.
        names: list of str, one for each picture; see `distinct_names`.
        pictures: uint8 `(P, R, R, 3)`, the originals.
        completions: uint8 `(P, n, R, R, 3)`.
        given: bool grid of the tokens that were given.
        animate: bool. Whether to write `animation_NAME.gif` too, of the
            completions of a picture. Defaults to `False`.
        order: int array, as for `filling`.

    Returns:
        dict of what they are by name of the file.
    """
    directory = pathlib.Path(directory)
    rows = completion_rows(pictures, completions, given)
    each, resolution = completions.shape[1:3]
    _write_png(directory / "completions.png", enlarge(tile(rows, each + 2)))
    for name, completed in zip(names, completions):
        for i, completion in enumerate(completed):
            _write_png(directory / f"completion_{name}_{i}.png", completion)
        if animate:
            path = directory / f"animation_{name}.gif"
            _write_gif(path, filling(completed, given, order), each)
    files = {
        "completions.png": COMPLETION_COLUMNS,
        f"completion_{names[0]}_0.png": _true_size(
            len(names) * each, resolution
        ),
    }
    if animate:
        files[f"animation_{names[0]}.gif"] = _FILLING
    return files


def distinct_names(files):
    """Names of files without their suffixes, numbered where they are alike.

    Args:
        files: list of `pathlib.Path`.
    """
    names = []
    for file in files:
        name, number = file.stem, 2
        while name in names:
            name, number = f"{file.stem}_{number}", number + 1
        names.append(name)
    return names


def filling(pictures, given, order=None):
    """Pictures as their tokens are drawn, what is not yet there grey.

    Of codes of a VQ-VAE, each shows its square of the picture that is decoded
    from all of them.

    Args:
        pictures: uint8 `(B, R, R, 3)`.
        given: bool grid of the tokens that are there from the start.
        order: int array `(N,)`, which token is drawn first, second and so on,
            as `igpt_keras.layers.pixel_order` gives it. Defaults to `None`,
            raster order.

    Returns:
        list of uint8 `(B, R, R, 3)`; the last shows all.
    """
    drawn = np.arange(given.size) if order is None else order
    drawn = drawn[~given.flat[drawn]]
    steps = min(_FRAMES, len(drawn))
    frames = []
    for count in np.linspace(0, len(drawn), steps + 1).astype("int64"):
        known = given.copy()
        known.flat[drawn[:count]] = True
        scale = pictures.shape[1] // len(known)
        known = known.repeat(scale, axis=0).repeat(scale, axis=1)
        frames.append(np.where(known[..., None], pictures, np.uint8(128)))
    return frames


def _true_size(count, resolution):
    return f"and so on, {count} alone, of {resolution}x{resolution} pixels"


def _write_png(path, image):
    with atomic_file(path) as file:
        Image.fromarray(image).save(file, "PNG")


def _write_gif(path, frames, columns):
    images = [
        Image.fromarray(enlarge(tile(frame, columns))) for frame in frames
    ]
    # One palette for all frames, or colours would flicker: of the last frame,
    # which has all of them, and the first, which is grey.
    ends = np.concatenate([np.asarray(images[0]), np.asarray(images[-1])])
    palette = Image.fromarray(ends).quantize(256)
    first, *others = (
        image.quantize(palette=palette, dither=Image.Dither.NONE)
        for image in images
    )
    with atomic_file(path) as file:
        first.save(
            file,
            "GIF",
            save_all=True,
            append_images=others,
            duration=[_SHORT] * len(others) + [_LONG],
            loop=0,
        )
