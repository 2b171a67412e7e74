import numpy as np


def altered_images(images, seed=0):
    """What is unlike images though it has their size, and much of their pixels.

    Args:
        images: uint8 `(M, R, R, 3)`.
        seed: int. Of noise, and of the order of shuffled pixels. Defaults to 0.

    Returns:
        dict by name of uint8 `(M, R, R, 3)`: `"noise"`, uniform in every
        channel; `"upside down"`; and `"shuffled"`, pixels of each image in a
        random order of its own.
    """
    generator = np.random.default_rng(seed)
    pixels = images.reshape(len(images), -1, 3)
    shuffled = [generator.permutation(image) for image in pixels]
    return {
        "noise": generator.integers(0, 256, images.shape, "uint8"),
        "upside down": images[:, ::-1],
        "shuffled": np.stack(shuffled).reshape(images.shape),
    }
