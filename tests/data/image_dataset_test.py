import hashlib

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import load_examples  # noqa: E402


def digits(split="train", training=True, batch_size=64, **arguments):
    return image_dataset(
        "digits",
        split=split,
        input_resolution=8,
        batch_size=batch_size,
        training=training,
        **arguments,
    )


def hashes(dataset, count):
    return [
        hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        for images, labels in dataset.take(count).as_numpy_iterator()
    ]


def test_resuming_gives_the_same_batches():
    whole = hashes(digits(seed=3), 60)
    assert len(set(whole)) == 60
    assert hashes(digits(seed=3, start_step=37), 23) == whole[37:]
    assert hashes(digits(seed=4), 2) != whole[:2]


def test_every_epoch_is_a_new_permutation():
    """Labels stand in for images: 1,295 of them fill 5 batches of 259."""
    batches = digits(batch_size=259).take(10).as_numpy_iterator()
    labels = np.array([y for _, y in batches]).reshape(2, -1)
    everyone = np.bincount(load_examples("digits", "train", 8).labels)
    for epoch in labels:
        np.testing.assert_array_equal(np.bincount(epoch), everyone)
    assert not np.array_equal(labels[0], labels[1])


def test_training_shifts_digits_by_at_most_a_pixel():
    examples = load_examples("digits", "train", 8)
    padded = np.pad(examples.images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    shifts = set()
    for image in next(iter(digits(batch_size=32)))[0].numpy():
        found = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if (padded[:, top : top + 8, left : left + 8] == image)
            .all(axis=(1, 2, 3))
            .any()
        ]
        assert found
        shifts.update(found[:1])
    assert len(shifts) == 9


def test_evaluation_is_every_image_once_in_order():
    examples = load_examples("digits", "test", 8)
    dataset = digits("test", training=False, batch_size=100)
    images, labels = map(np.concatenate, zip(*dataset.as_numpy_iterator()))
    np.testing.assert_array_equal(images, examples.images)
    np.testing.assert_array_equal(labels, examples.labels)
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert int(dataset.cardinality()) == 4
    again = digits("test", training=False, batch_size=100)
    assert hashes(dataset, 4) == hashes(again, 4)


def test_iterators_are_not_autotuned():
    """They would block when they end; the option outlives later maps."""
    dataset = digits().map(lambda images, labels: labels).prefetch(1)
    assert dataset.options().autotune.enabled is False


def test_splits_are_apart_complete_and_balanced():
    parts = {
        split: load_examples("digits", split, 8)
        for split in ("train", "validation", "test")
    }
    assert {k: len(v.labels) for k, v in parts.items()} == {
        "train": 1295,
        "validation": 143,
        "test": 359,
    }
    for part in parts.values():
        counts = np.bincount(part.labels)
        assert counts.max() - counts.min() < 0.1 * counts.mean() + 2
    everything = np.concatenate([p.images for p in parts.values()])
    distinct = len(np.unique(everything.reshape(1797, -1), axis=0))
    assert distinct == 1797
    folded = load_examples("digits", "train", 8, fold_validation=True)
    assert len(folded.labels) == 1295 + 143


def test_cifar10(shared):
    data_dir = str(shared / "data" / "tfds")
    sizes = {"train": 45_000, "validation": 5_000, "test": 5_000}
    for split, size in sizes.items():
        examples = load_examples("cifar10", split, 32, data_dir=data_dir)
        assert examples.images.shape == (size, 32, 32, 3)
        assert set(np.bincount(examples.labels)) == {size // 10}
    assert examples.class_names[:2] == ("airplane", "automobile")
    images, labels = next(
        iter(
            image_dataset(
                "cifar10",
                split="train",
                input_resolution=8,
                batch_size=16,
                training=True,
                data_dir=data_dir,
            )
        )
    )
    assert images.shape == (16, 8, 8, 3) and images.dtype == tf.uint8
    # Natural images: bright and dark, coloured, and not all alike.
    assert np.std(images) > 30 and len(np.unique(images)) > 100


def test_shrinking_averages_areas():
    examples = load_examples("digits", "test", 8)
    dataset = image_dataset(
        "digits", split="test", input_resolution=4, batch_size=400
    )
    images = next(iter(dataset))[0].numpy().astype(float)
    blocks = examples.images.reshape(-1, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert np.abs(images - blocks).max() <= 0.5


def test_unprepared_dataset(tmp_path):
    with pytest.raises(ValueError, match="tfds build cifar10 --data_dir="):
        load_examples("cifar10", "train", 32, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "cifar11"}, "Unknown dataset 'cifar11'.*digits, cifar10"),
        ({"split": "dev"}, "Unknown split 'dev'"),
        ({"batch_size": 0}, "batch_size must be an int >= 1"),
        ({"start_step": -1}, "start_step must be an int >= 0"),
        ({"input_resolution": 8.0}, "input_resolution must be an int"),
        (
            {"split": "validation", "fold_validation": True},
            "there is no validation split",
        ),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    defaults = {
        "name": "digits",
        "split": "train",
        "input_resolution": 8,
        "batch_size": 4,
    }
    with pytest.raises(ValueError, match=message):
        image_dataset(**{**defaults, **arguments})
