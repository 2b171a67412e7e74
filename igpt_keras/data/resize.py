def resize_image(image, resolution):
    """The centre square, resized.

    Shrinking averages areas: no aliasing, and no ringing that would put
    colours into the picture that it does not have, which a palette would then
    spend entries on. The paper does not say how it shrinks. Enlarging is
    bicubic.

    Args:
        image: uint8 `(H, W, 3)`; inside tf.data, sizes may be unknown.
        resolution: int. Side of the result, `R`.

    Returns:
        uint8 tensor `(R, R, 3)`.
    """
    import tensorflow as tf

    image = tf.convert_to_tensor(image)
    size, known = image.shape[:2], image.shape[:2].is_fully_defined()
    if not known:
        size = tf.shape(image)[:2]
    side = min(size) if known else tf.reduce_min(size)
    # Cropped before it is resized: the middle is met to half a pixel of the
    # original's.
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    image = image[top : top + side, left : left + side]

    def resize(method):
        resized = tf.image.resize(image, (resolution, resolution), method)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)

    ways = [lambda: resize("bicubic"), lambda: image, lambda: resize("area")]
    if known:
        image = ways[(side >= resolution) + (side > resolution)]()
    else:
        image = tf.switch_case(tf.sign(side - resolution) + 1, ways)
    return tf.ensure_shape(image, (resolution, resolution, 3))
