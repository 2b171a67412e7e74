import math

import keras
import numpy as np

from igpt_keras.terminal import verbosity
from igpt_keras.tokenizers.codebook_usage import CodebookUsage


def palette_error(tokenizer, batches, num_images, verbose=0):
    """What a palette costs.

    The mean over images, pixels and channels of the squared difference, in
    levels of 0 to 255, between an image and what is left of it:
    `detokenize(tokenizer(image))`.

    Args:
        tokenizer: `PaletteTokenizer`.
        batches: iterable of uint8 `(B, R, R, 3)`.
        num_images: int. Images to measure on; there must be as many.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        float.
    """
    progress = keras.utils.Progbar(
        num_images, interval=1, unit_name="image", verbose=verbosity(verbose)
    )
    total = seen = 0
    for images in batches:
        images = images[: num_images - seen]
        decoded = tokenizer.detokenize(tokenizer(images))
        decoded = keras.ops.convert_to_numpy(decoded)
        difference = decoded.astype("int64") - images
        total += int(np.square(difference).sum())
        seen += len(images)
        progress.update(seen)
        if seen == num_images:
            break
    return total / (num_images * math.prod(images.shape[1:]))


def reconstruction_quality(vq_vae, batches):
    """What the codes of a VQ-VAE keep of images.

    Args:
        vq_vae: `VQVAE`.
        batches: iterable of uint8 `(B, R, R, 3)`.

    Returns:
        dict of float: `psnr` (dB) and `ssim`, means over images;
        `bits_per_pixel` of codes that all take `log2 V` bits,
        `entropy_bits_per_pixel` of codes that take what their frequency calls
        for; `active_codes`, an int, `active_code_fraction`, `perplexity`; and
        `revived_codes`, an int, of a codebook that revives them.

    Raises:
        ImportError: if TensorFlow, which computes PSNR and SSIM, is missing.
    """
    import tensorflow as tf

    usage = CodebookUsage(vq_vae.vocabulary_size)
    # SSIM's window of 11 pixels, where the images have as many.
    window = min(11, vq_vae.input_resolution)
    psnr, ssim = [], []
    for before in batches:
        token_ids = vq_vae.encode(before)
        after = keras.ops.convert_to_numpy(vq_vae.decode(token_ids))
        usage.update_state(token_ids)
        psnr.append(tf.image.psnr(before, after, max_val=255).numpy())
        ssim.append(
            tf.image.ssim(
                before, after, max_val=255, filter_size=window
            ).numpy()
        )
    used = {name: float(value) for name, value in usage.result().items()}
    tokens = vq_vae.model_resolution**2 / vq_vae.input_resolution**2
    # Equal images have an infinite PSNR.
    psnr = np.minimum(np.concatenate(psnr), 100)
    quality = {
        "psnr": float(psnr.mean()),
        "ssim": float(np.concatenate(ssim).mean()),
        "bits_per_pixel": tokens * math.log2(vq_vae.vocabulary_size),
        "entropy_bits_per_pixel": tokens * math.log2(used["perplexity"]),
        "active_codes": int(used["active_codes"]),
        "active_code_fraction": used["active_codes"] / vq_vae.vocabulary_size,
        "perplexity": used["perplexity"],
    }
    if hasattr(vq_vae.quantizer, "revived"):
        revived = keras.ops.convert_to_numpy(vq_vae.quantizer.revived)
        quality["revived_codes"] = int(revived)
    return quality
