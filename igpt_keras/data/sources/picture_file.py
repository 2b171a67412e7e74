import contextlib
import os
import re
import stat

import numpy as np
from PIL import Image
from PIL import ImageOps

# By content, whatever a file is called: Pillow has Ghostscript run an EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")


def read_picture(file, background=None):
    """Decodes a picture to uint8 `(H, W, 3)`, upright.

    Greyscale and palettes lose nothing and are converted.

    Args:
        file: path.
        background: colour of three ints that transparent parts are laid over.
            Defaults to `None`, which refuses them.

    Raises:
        ValueError: for what is no whole picture of 8-bit RGB colours.
    """
    return _decode(file, lambda: _open(file), background)


def picture_pixels(picture, background=None, name="The picture"):
    """`read_picture` of a picture that Pillow has opened, or made.

    Args:
        picture: `PIL.Image.Image`, which stays as it is.
        background: as there.
        name: str. What to call it in errors.
    """
    return _decode(
        name, lambda: contextlib.nullcontext((picture, None)), background
    )


@contextlib.contextmanager
def _open(file):
    """A picture, or why a path cannot be opened as one."""
    # To open a pipe would wait forever for someone to write into it.
    if not stat.S_ISREG(os.stat(file).st_mode):
        yield None, "is no regular file. Remove it."
        return
    with Image.open(file, formats=FORMATS) as picture:
        yield picture, None


def _decode(name, opened, background):
    try:
        with opened() as (picture, reason):
            reason = reason or _reason_against(picture, background)
            if reason is None:
                # Cameras store how they were held beside the pixels.
                upright = ImageOps.exif_transpose(picture)
                if background is not None and upright.has_transparency_data:
                    upright = upright.convert("RGBA")
                    below = Image.new("RGBA", upright.size, (*background, 255))
                    upright = Image.alpha_composite(below, upright)
                return np.asarray(upright.convert("RGB"))
    except MemoryError:
        # Says more of the machine than of the picture.
        raise
    except Exception as error:
        # Pillow's decoders meet damage with whatever their parsing comes to:
        # struct.error, TypeError, SyntaxError, ...
        message = str(error) or type(error).__name__
        raise ValueError(
            printable(f"{name} cannot be read as a picture ({message}).")
        ) from error
    raise ValueError(printable(f"{name} {reason}"))


def printable(text):
    """Bytes of a path that are no UTF-8 as `\\xe9`, to print and to store."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _reason_against(picture, background):
    """Why a picture cannot be used, or `None`, without decoding much of it."""
    width, height = picture.size
    if width * height > Image.MAX_IMAGE_PIXELS:
        return (
            f"has {width} x {height} pixels, more than "
            f"{Image.MAX_IMAGE_PIXELS:,}: it may be made to fill the memory. "
            "Shrink it first."
        )
    # Pillow cuts 16-bit colours to 8 while decoding; before that the decoder's
    # arguments name them, "RGB;16B". (A BMP's "BGR;16" is bits of a pixel.)
    deep = re.search(r"\w+;16[BLN]", str(getattr(picture, "tile", "")))
    if picture.mode.startswith(("I", "F")) or deep:
        return (
            f"has {deep.group() if deep else picture.mode} pixels, expected 8 "
            "bits a channel. Convert it first."
        )
    if picture.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
        return (
            f"has {picture.mode} colours, which are RGB only by a colour "
            "profile. Convert it to RGB first."
        )
    # Phones add a preview or a depth map to a JPEG, which makes it an MPO.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        return f"is animated ({frames} frames). Save the frame that is meant."
    if background is None and picture.has_transparency_data:
        if picture.convert("RGBA").getextrema()[3][0] < 255:
            return (
                "is transparent in places, where it has no colour. Flatten it "
                "onto a background first."
            )
    return None
