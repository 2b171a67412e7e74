def resize_image(image, resolution):
    """Short side to `resolution`, then the centre square.

    Shrinking averages areas: no aliasing, and no ringing that would put
    colours into the picture that it does not have. Enlarging is bicubic.

    Args:
        image: uint8 `(H, W, 3)`.
        resolution: int. Side of the result, `R`.

    Returns:
        uint8 tensor `(R, R, 3)`.
    """
    import tensorflow as tf

    height, width = image.shape[0], image.shape[1]
    short = min(height, width)
    if (height, width) != (resolution, resolution):
        size = (
            max(resolution, round(height * resolution / short)),
            max(resolution, round(width * resolution / short)),
        )
        method = "area" if short > resolution else "bicubic"
        image = tf.image.resize(image, size, method=method)
        image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), "uint8")
        top = (size[0] - resolution) // 2
        left = (size[1] - resolution) // 2
        image = image[top : top + resolution, left : left + resolution]
    return image
