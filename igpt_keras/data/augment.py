"""What images go through on their way to the input resolution."""

from igpt_keras.data.resize import resize_image

# Section 3.1 of the paper.
IMAGENET_SHORT_SIDES = (256, 384)
IMAGENET_CROP = 224
# Of 32x32 images 4 pixels, after Wide Residual Networks.
PADDING_FRACTION = 8
FLIPPED = ("cifar10", "cifar100", "stl10")


def prepare_for_evaluation(image, resolution):
    """The same picture always: the centre square, resized.

    For ImageNet that is what the paper's short side of 224 and centre crop of
    224x224 shows, resized once.

    Args:
        image: uint8 `(H, W, 3)`, or a scalar string, a JPEG.
        resolution: int. Side of the result, `R`.

    Returns:
        uint8 `(R, R, 3)`.
    """
    import tensorflow as tf

    if image.dtype == tf.string:
        size = tf.io.extract_jpeg_shape(image)[:2]
        side = tf.reduce_min(size)
        image = _decode_crop(image, (size - side) // 2, side)
    return resize_image(image, resolution)


def prepare_for_training(image, name, resolution, seed):
    """`augment`, and resized to uint8 `(R, R, 3)`."""
    return resize_image(augment(image, name, resolution, seed), resolution)


def augment(image, name, resolution, seed):
    """A random crop, and for CIFAR and STL-10 a flip.

    JPEGs, of ImageNet: what a random 224x224 shows after the short side was
    brought to a uniform number in [256, 384]. The crop is cut out of the
    original, while it is decoded, to be resized once. Digits: shifted by up to
    a pixel, padded with background. Others: padded with an eighth of their side
    by reflection, a random crop of their size.

    Args:
        image: uint8 `(H, W, 3)`, or a scalar string, a JPEG.
        name: dataset, as `image_dataset` takes it.
        resolution: int. Side of the result, `R`.
        seed: int64 tensor `(2,)`, of which everything random is a function.

    Returns:
        uint8 `(S, S, 3)`, of its own side.
    """
    import tensorflow as tf

    first, second = tf.unstack(tf.random.split(seed, num=2), axis=0)
    if image.dtype == tf.string:
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
        return _decode_crop(image, corner, side)
    if name.startswith("folder:"):
        image = resize_image(image, resolution)
    size = tf.shape(image)[0]
    if name == "digits":
        margin, mode = 1, "CONSTANT"
    else:
        margin, mode = size // PADDING_FRACTION, "REFLECT"
    image = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]], mode)
    image = tf.image.stateless_random_crop(image, (size, size, 3), first)
    if name in FLIPPED:
        image = tf.image.stateless_random_flip_left_right(image, second)
    return image


def _decode_crop(jpeg, corner, side):
    import tensorflow as tf

    window = tf.stack([corner[0], corner[1], side, side])
    return tf.io.decode_and_crop_jpeg(jpeg, window, channels=3)
