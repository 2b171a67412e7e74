"""What a VQ-VAE run shows: TensorBoard, pictures and the table."""

import keras
import matplotlib.figure
import numpy as np
import reporting

NUM_PICTURES = 8
HISTOGRAM_IMAGES = 128


class CodebookLog(keras.callbacks.Callback):
    """Pictures and the codebook for TensorBoard, after each epoch.

    Reconstructions under their originals; how often each code is used in the
    first 128 images, as a histogram; codes revived in the epoch. The Keras
    callback writes the other curves.

    Args:
        log_dir: directory of the run's logs.
        images: uint8 `(M, R, R, 3)`, of validation.
    """

    def __init__(self, log_dir, images):
        super().__init__()
        self.log_dir = log_dir
        self.images = images[:HISTOGRAM_IMAGES]

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(
            str(self.log_dir / "codebook")
        )
        self.revived = self._revived()

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        vq_vae = self.model
        token_ids = [
            keras.ops.convert_to_numpy(vq_vae.encode(self.images[i : i + 16]))
            for i in range(0, len(self.images), 16)
        ]
        token_ids = np.concatenate(token_ids)
        size = vq_vae.vocabulary_size
        counts = np.bincount(token_ids.ravel(), minlength=size)
        before = self.images[:NUM_PICTURES]
        after = vq_vae.decode(token_ids[:NUM_PICTURES])
        after = keras.ops.convert_to_numpy(after)
        rows = np.concatenate([before, after])
        step = int(keras.ops.convert_to_numpy(vq_vae.optimizer.iterations))
        with self.writer.as_default(step=step):
            grid = reporting.tile(rows, len(before))
            tf.summary.image("originals_and_reconstructions", grid[None])
            tf.summary.histogram("code_usage", counts)
            revived = self._revived()
            if revived is not None:
                tf.summary.scalar("revived_codes", revived - self.revived)
                self.revived = revived
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()

    def _revived(self):
        revived = getattr(self.model.quantizer, "revived", None)
        if revived is None:
            return None
        return float(keras.ops.convert_to_numpy(revived))


def draw_reconstructions(path, images, pictures, results):
    """The same images as they are and out of each VQ-VAE, a row each."""
    grids = [reporting.tile(images[:NUM_PICTURES], NUM_PICTURES)]
    titles = ["original"]
    for result in results:
        name = result["quantizer"]
        grids.append(reporting.tile(pictures[name], NUM_PICTURES))
        titles.append(
            f"{name}: PSNR {result['psnr']:.2f} dB, SSIM {result['ssim']:.3f}, "
            f"{result['bits_per_pixel']:.2f} bits per pixel, "
            f"{result['active_codes']} codes in use"
        )
    height, width, _ = grids[0].shape
    size = 12
    figure = matplotlib.figure.Figure(
        figsize=(size, len(grids) * (size * height / width + 0.35))
    )
    all_axes = figure.subplots(len(grids), squeeze=False)[:, 0]
    for axes, grid, title in zip(all_axes, grids, titles):
        axes.imshow(grid, interpolation="nearest")
        axes.set_title(title, fontsize="medium")
        axes.axis("off")
    # Every pixel of a picture gets at least one of the file.
    dpi = max(100, 1.3 * width / size)
    figure.savefig(path, dpi=dpi, bbox_inches="tight")


def summary(metrics, run_dir):
    """The table, and the paths of what the run left."""
    columns = (
        ("psnr", "PSNR dB", "{:.2f}"),
        ("ssim", "SSIM", "{:.3f}"),
        ("bits_per_pixel", "bits/pixel", "{:.2f}"),
        ("entropy_bits_per_pixel", "by entropy", "{:.2f}"),
        ("active_codes", "active", "{:d}"),
        ("active_code_fraction", "of all", "{:.1%}"),
        ("perplexity", "perplexity", "{:.0f}"),
        ("train_seconds", "seconds", "{:.0f}"),
    )
    heads = "".join(f"{head:>12}" for _, head, _ in columns)
    lines = [
        "",
        f"On {metrics['test_images']:,} test images of {metrics['dataset']}, "
        f"{metrics['input_resolution']} pixels, "
        f"{metrics['vocabulary_size']} codes:",
        f"{'':20}{heads}",
    ]
    for result in metrics["quantizers"]:
        cells = "".join(
            f"{text.format(result[key]):>12}" for key, _, text in columns
        )
        lines.append(f"{result['quantizer']:20}{cells}")
    lines += ["", f"In {run_dir}:"]
    first = metrics["quantizers"][0]["quantizer"]
    for name, what in (
        ("reconstructions.png", "test images before and after"),
        ("metrics.json", "these numbers"),
        (
            f"{first}/preset",
            f"for --tokenizer=vq_vae:{run_dir / first / 'preset'}",
        ),
        ("logs", f"curves: tensorboard --logdir={run_dir / 'logs'}"),
    ):
        lines.append(f"  {name:20} {what}")
    return "\n".join(lines)
