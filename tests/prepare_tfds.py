"""Prepares TFDS datasets from made-up images, in their own format on disk."""

import numpy as np
import tensorflow_datasets as tfds

# Side of the images and number of examples in each TFDS split.
SHAPES = {
    "cifar100": (32, {"train": 200, "test": 20}),
    "stl10": (96, {"train": 40, "test": 20, "unlabelled": 7}),
    "imagenet2012": (240, {"train": 50, "validation": 10}),
    "imagenet_resized/32x32": (32, {"train": 50, "validation": 10}),
    "downsampled_imagenet/32x32": (32, {"train": 50, "validation": 10}),
    "downsampled_imagenet/64x64": (64, {"train": 50, "validation": 10}),
}
CLASSES = {"cifar100": 100, "stl10": 10}


def image(i, side):
    """A picture that names its number: its first pixel's red and green."""
    rows = np.linspace(0, 255, side)[:, None, None]
    picture = np.broadcast_to(rows, (side, side, 3)).astype("uint8").copy()
    picture[: side // 2, : side // 2, :2] = [i % 256, i // 256]
    return picture


def prepare(name, data_dir, monkeypatch, prefix=""):
    """Another `prefix` gives another order on disk."""
    builder = tfds.builder(name, data_dir=data_dir)
    side, sizes = SHAPES[name]
    features = builder.info.features

    def generate(split):
        base = 1000 * list(sizes).index(split)
        for i in range(sizes[split]):
            example = {"image": image(base + i, side)}
            if "label" in features:
                example["label"] = i % CLASSES.get(name, 1000)
            if "coarse_label" in features:
                example["coarse_label"] = 0
            if "id" in features:
                example["id"] = f"{split}_{i}"
            if "file_name" in features:
                example["file_name"] = f"{split}_{i}.JPEG"
            yield f"{prefix}{i}", example

    monkeypatch.setattr(
        type(builder),
        "_split_generators",
        lambda self, manager: {split: generate(split) for split in sizes},
    )
    builder.download_and_prepare()
