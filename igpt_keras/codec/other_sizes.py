import bz2
import io
import lzma
import math

import numpy as np
from PIL import Image

# The most that a WebP picture may measure.
_WEBP_SIDE = 16383


def other_sizes(token_ids, vocabulary_size, colours=None):
    """What general codecs need for the same tokens.

    bz2 and xz get the tokens as bytes, two each if there are more than 256.
    PNG and WebP get one sheet with all images, which spares them a header for
    each; PNG as palette indices if 256 are enough.

    Args:
        token_ids: int array `(M, N)`.
        vocabulary_size: int.
        colours: uint8 `(V, 3)` of the tokens. Defaults to `None`: they are
            none, and there is no PNG or WebP.

    Returns:
        dict of bytes by name. WebP is left out if the sheet is too large.
    """
    is_small = vocabulary_size <= 256
    raw = np.asarray(token_ids, "uint8" if is_small else "<u2")
    sizes = {}
    if colours is not None:
        sheet = _sheet(raw)
        picture = Image.fromarray(colours[sheet])
        indexed = picture
        if is_small:
            indexed = Image.fromarray(sheet)
            indexed.putpalette(colours.tobytes())
        sizes["PNG"] = _saved(indexed, "PNG", optimize=True)
        if max(sheet.shape) <= _WEBP_SIDE:
            sizes["WebP lossless"] = _saved(
                picture, "WEBP", lossless=True, quality=100, method=6
            )
    content = raw.tobytes()
    # A dictionary of all that there is: the preset's own of 64 MB costs more
    # time than the tokens of an image.
    xz = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": max(len(content), 4096),
    }
    sizes["bz2"] = len(bz2.compress(content))
    sizes["xz"] = len(lzma.compress(content, filters=[xz]))
    return sizes


def least_sizes(token_ids, vocabulary_size, colours=None):
    """What the best of `other_sizes` needs for each image by itself.

    Args:
        token_ids: int array `(M, N)`.
        vocabulary_size: int.
        colours: uint8 `(V, 3)` of the tokens. Defaults to `None`.

    Returns:
        int array `(M,)`, bytes.
    """
    return np.array(
        [
            min(other_sizes(image[None], vocabulary_size, colours).values())
            for image in token_ids
        ]
    )


def _sheet(token_ids):
    """All images in rows and columns, the last row filled up with token 0."""
    count, length = token_ids.shape
    side = math.isqrt(length)
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    images = np.zeros((rows * columns, length), token_ids.dtype)
    images[:count] = token_ids
    images = images.reshape(rows, columns, side, side)
    return images.transpose(0, 2, 1, 3).reshape(rows * side, columns * side)


def _saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.tell()
