"""Images per second of each stage of the data pipeline, beside TFDS.

    python tools/benchmark_data.py --data_dir=DIRECTORY \
        --palette=openai/color-clusters/kmeans_centers.npy --tokens=DIRECTORY

Every stage includes those before it, but "augmented" does not need "decoded":
of a JPEG the crop alone is decoded. All are measured in turns in the same run;
the ratio to TFDS decoding whole images is what to compare. For a token cache
(`--tokens`, of recipes/tokenize_dataset.py) tokens per second stand beside what
training `igpt_s` takes in at `--teraflops`.
"""

import statistics
import sys
import time

from absl import app
from absl import flags
from absl import logging

# Images that pass before the clock starts.
WARM_UP = 64


def define_flags():
    flags.DEFINE_string("dataset", "imagenet2012", "A TFDS dataset.")
    flags.DEFINE_string(
        "data_dir", None, "Directory of prepared TFDS datasets."
    )
    flags.DEFINE_string("palette", None, "Palette as .npy. Defaults to random.")
    for name, default, text in (
        ("vocabulary_size", 512, "Colours of a random palette."),
        ("input_resolution", 32, "Side of the images."),
        ("images", 1000, "Images in a measurement."),
        ("repeats", 3, "Measurements; the median is shown."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=1)
    flags.DEFINE_string("tokens", None, "A token cache to read too.")
    flags.DEFINE_float(
        "teraflops",
        300,
        "1e12 floating-point operations per second of one accelerator, as "
        "training reaches them.",
        lower_bound=1e-3,
    )
    flags.DEFINE_list("cores", ["1", "2"], "Numbers of threads to map with.")


def check_dataset(name):
    from igpt_keras.data.sources.tfds_records import LAYOUTS

    if name not in LAYOUTS:
        raise ValueError(
            f"{name!r} is no dataset of TFDS, beside which the pipeline is "
            f"measured. Choose one of {', '.join(LAYOUTS)}."
        )


def parse_cores(values):
    """Numbers of threads of the strings of `--cores`."""
    if not values or not all(v.isdecimal() and int(v) > 0 for v in values):
        raise ValueError(
            f"--cores={','.join(values)} are no numbers of threads. Give "
            "integers >= 1, such as --cores=1,2."
        )
    return [int(value) for value in values]


def stages(name, data_dir, tokenizer, resolution, cores):
    """By stage an endless dataset and the number of images in an element."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from igpt_keras.data import open_split
    from igpt_keras.data.resize import resize_image
    from igpt_keras.data.sources.tfds_records import LAYOUTS

    opened = open_split(name, "train", resolution, data_dir=data_dir)
    count = len(opened.labels)
    builder = tfds.builder(name, data_dir=data_dir)
    # TFDS' own pipeline, from the files to decoded images.
    read = tfds.ReadConfig(
        interleave_cycle_length=cores,
        num_parallel_calls_for_decode=cores,
        num_parallel_calls_for_interleave_files=cores,
        try_autocache=False,
    )
    theirs = builder.as_dataset(
        split=LAYOUTS[name].train, read_config=read
    ).repeat()
    places = tf.data.Dataset.range(tf.int64.max)

    def decode(k):
        image = opened.fetch(k % count)
        if image.dtype == tf.string:
            image = tf.io.decode_jpeg(image, channels=3)
        return image

    def crop(k):
        seed = tf.stack([tf.constant(0, tf.int64), k])
        return opened.augment(opened.fetch(k % count), resolution, seed)

    resized = places.map(lambda k: resize_image(crop(k), resolution), cores)
    return {
        "TFDS, decoded": (theirs, 1),
        "read": (places.map(lambda k: opened.fetch(k % count), cores), 1),
        "decoded": (places.map(decode, cores), 1),
        "augmented": (places.map(crop, cores), 1),
        "resized": (resized, 1),
        "whole, tokens": (resized.batch(32).map(tokenizer, cores), 32),
    }


def images_per_second(dataset, each, images):
    import tensorflow as tf

    # Other than TFDS' own, which autotunes nothing here either.
    options = tf.data.Options()
    options.autotune.enabled = False
    iterator = iter(dataset.with_options(options))
    for _ in range(max(1, WARM_UP // each)):
        next(iterator)
    elements = max(1, images // each)
    start = time.perf_counter()
    for _ in range(elements):
        next(iterator)
    return elements * each / (time.perf_counter() - start)


def report_cache(directory, resolution, images, teraflops):
    """Prints the rate of a token cache, and what `igpt_s` takes in."""
    from igpt_keras import presets
    from igpt_keras.data import image_dataset

    batch_size = 128
    dataset = image_dataset(
        f"tokens:{directory}", "train", resolution, batch_size, training=True
    )
    size = {**presets.IGPT["igpt_s"], "sequence_length": resolution**2}
    del size["num_heads"]
    flops = presets.count_training_flops(**size, batch_size=1)
    need = teraflops * 1e12 / flops * resolution**2
    rate = images_per_second(dataset, batch_size, 100 * images) * resolution**2
    print(
        f"\ncached tokens: {rate / 1e6:,.1f} million per second; igpt_s at "
        f"{teraflops:g} TFLOP/s takes in {need / 1e6:,.2f} million: "
        f"{rate / need:,.0f} times"
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # TFDS reports on itself between the rows of the table.
    logging.set_verbosity(logging.WARNING)
    import numpy as np

    import igpt_keras

    values = flags.FLAGS
    palette = values.palette
    if palette is None:
        generator = np.random.default_rng(0)
        palette = generator.uniform(-1, 1, (values.vocabulary_size, 3))
    try:
        check_dataset(values.dataset)
        every_cores = parse_cores(values.cores)
        tokenizer = igpt_keras.PaletteTokenizer(palette)
        for cores in every_cores:
            table = stages(
                values.dataset,
                values.data_dir,
                tokenizer,
                values.input_resolution,
                cores,
            )
            rates = {stage: [] for stage in table}
            for _ in range(values.repeats):
                for stage, (dataset, each) in table.items():
                    rate = images_per_second(dataset, each, values.images)
                    rates[stage].append(rate)
            print(f"\n{values.dataset}, {cores} core(s): images per second")
            theirs = statistics.median(rates["TFDS, decoded"])
            for stage, found in rates.items():
                median = statistics.median(found)
                spread = f"{min(found):,.0f} to {max(found):,.0f}"
                print(
                    f"{stage:16}{median:10,.0f}   {median / theirs:5.2f} x   "
                    f"{spread}",
                    flush=True,
                )
        if values.tokens is not None:
            report_cache(
                values.tokens,
                values.input_resolution,
                values.images,
                values.teraflops,
            )
    except ValueError as error:
        sys.exit(f"benchmark_data.py: {error}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
