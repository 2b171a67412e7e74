"""What training images go through: a function for each kind of dataset.

Each takes a picture, the input resolution and a seed, int64 tensor `(2,)`, of
which everything random is a function, and returns uint8 `(S, S, 3)`, of its
own side: `Split.batches` brings it to the resolution.
"""

from igpt_keras.data.resize import resize_image

# Section 3.1 of the paper.
IMAGENET_SHORT_SIDES = (256, 384)
IMAGENET_CROP = 224
# Of 32x32 images 4 pixels, after Wide Residual Networks.
PADDING_FRACTION = 8


def crop_jpeg(image, resolution, seed):
    """What a random 224x224 of ImageNet shows.

    The short side is brought to a uniform number in [256, 384] first. The crop
    is cut out of the original, a JPEG as a scalar string, while it is decoded,
    to be resized once.
    """
    import tensorflow as tf

    first, second = _two_seeds(seed)
    low, high = IMAGENET_SHORT_SIDES
    short_side = tf.random.stateless_uniform(
        (), first, minval=low, maxval=high + 1, dtype=tf.int32
    )
    size = tf.io.extract_jpeg_shape(image)[:2]
    side = IMAGENET_CROP * tf.reduce_min(size) / short_side
    side = tf.cast(tf.round(side), tf.int32)
    place = tf.random.stateless_uniform((2,), second, dtype=tf.float64)
    room = tf.cast(size - side + 1, tf.float64)
    corner = tf.cast(place * room, tf.int32)
    return decode_crop(image, corner, side)


def crop(image, resolution, seed):
    """A crop of the image's size, padded with an eighth by reflection."""
    import tensorflow as tf

    margin = tf.shape(image)[0] // PADDING_FRACTION
    return _padded_crop(image, margin, "REFLECT", _two_seeds(seed)[0])


def crop_and_flip(image, resolution, seed):
    """`crop`, and left and right exchanged every other time."""
    import tensorflow as tf

    image = crop(image, resolution, seed)
    flip_seed = _two_seeds(seed)[1]
    return tf.image.stateless_random_flip_left_right(image, flip_seed)


def resize_and_crop(image, resolution, seed):
    """`crop` of the centre square, resized: for pictures of any size."""
    return crop(resize_image(image, resolution), resolution, seed)


def shift(image, resolution, seed):
    """Moved by up to a pixel each way, filled with background, black."""
    return _padded_crop(image, 1, "CONSTANT", _two_seeds(seed)[0])


def decode_crop(jpeg, corner, side):
    """A square of a JPEG; nothing else of it is decoded.

    Args:
        jpeg: scalar string tensor.
        corner: int32 tensor `(2,)`, top and left.
        side: int32 scalar tensor.

    Returns:
        uint8 `(side, side, 3)`.
    """
    import tensorflow as tf

    window = tf.stack([corner[0], corner[1], side, side])
    return tf.io.decode_and_crop_jpeg(jpeg, window, channels=3)


def _padded_crop(image, margin, mode, seed):
    import tensorflow as tf

    size = tf.shape(image)[0]
    image = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]], mode)
    return tf.image.stateless_random_crop(image, (size, size, 3), seed)


def _two_seeds(seed):
    import tensorflow as tf

    return tf.unstack(tf.random.split(seed, num=2), axis=0)
