import hashlib

import numpy as np
import pytest
import sklearn.datasets

tf = pytest.importorskip("tensorflow")

import prepare_tfds  # noqa: E402

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import load_examples  # noqa: E402
from igpt_keras.data import open_split  # noqa: E402
from igpt_keras.data import open_splits  # noqa: E402
from igpt_keras.data.sources import tfds_records  # noqa: E402
from igpt_keras.data.sources.tfds_records import TFDSRecords  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    directory = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))


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


def worker(pipeline, workers=2, replicas=2):
    return tf.distribute.InputContext(workers, pipeline, replicas)


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.large)]
)
def test_two_hundred_batches_across_a_stop(workers):
    """1,295 images fill 20.2 batches: the 200 go through nearly ten epochs."""
    for pipeline in range(workers):
        context = worker(pipeline, workers, workers)
        whole = hashes(digits(input_context=context), 200)
        before = hashes(digits(input_context=context), 73)
        after = hashes(digits(input_context=context, start_step=73), 127)
        assert before + after == whole


@pytest.mark.parametrize("training", [True, False])
def test_workers_share_each_batch(training):
    """Two workers of two replicas read what one would have read."""
    arguments = {"training": training, "start_step": 2}
    alone = digits(**arguments).take(7)
    parts = [
        digits(**arguments, input_context=worker(i, 2, 4)).take(14)
        for i in range(2)
    ]
    whole = np.concatenate([x for x, _ in alone.as_numpy_iterator()])
    first, second = (
        np.concatenate([x for x, _ in part.as_numpy_iterator()])
        for part in parts
    )
    assert next(iter(parts[0]))[0].shape[0] == 16
    both = [first.reshape(7, 32, -1), second.reshape(7, 32, -1)]
    np.testing.assert_array_equal(
        np.concatenate(both, axis=1).reshape(whole.shape), whole
    )


def test_workers_of_an_evaluation_leave_nothing_out():
    parts = [
        digits("test", training=False, input_context=worker(i, 2, 2))
        for i in range(2)
    ]
    labels = [np.concatenate([y for _, y in part]) for part in parts]
    everyone = load_examples("digits", "test", 8).labels
    assert sum(map(len, labels)) == len(everyone) == 359
    np.testing.assert_array_equal(
        np.bincount(np.concatenate(labels)), np.bincount(everyone)
    )


def test_batches_that_do_not_divide():
    with pytest.raises(ValueError, match="batch_size=63 does not divide"):
        digits(batch_size=63, input_context=worker(0))


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


@pytest.mark.large
def test_cifar10(shared):
    data_dir = str(shared / "data" / "tfds")
    sizes = {"train": 45_000, "validation": 5_000, "test": 5_000}
    for name, split in open_splits("cifar10", 32, data_dir=data_dir).items():
        assert len(split) == sizes.pop(name)
        assert set(np.bincount(split.labels)) == {len(split) // 10}
    assert not sizes
    examples = load_examples("cifar10", "test", 32, data_dir=data_dir)
    assert examples.images.shape == (5_000, 32, 32, 3)
    np.testing.assert_array_equal(examples.labels, split.labels)
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


NAMES = list(prepare_tfds.SHAPES)


def numbers(images):
    """The number that `prepare_tfds.image` wrote into each picture."""
    images = images.astype(int)
    return images[:, 8, 8, 0] + 256 * images[:, 8, 8, 1]


@pytest.mark.parametrize("name", NAMES)
def test_tfds_splits(name, tmp_path, monkeypatch):
    prepare_tfds.prepare(name, tmp_path, monkeypatch)
    side, sizes = prepare_tfds.SHAPES[name]
    count = sizes["train"]
    share = 0.04 if "imagenet" in name else 0.1
    found = {}
    for split in ("train", "validation", "test"):
        examples = load_examples(name, split, 32, data_dir=str(tmp_path))
        found[split] = numbers(examples.images).tolist()
        has_labels = "downsampled" not in name
        assert (examples.labels >= 0).all() == has_labels
        assert bool(examples.class_names) == has_labels
    assert len(found["validation"]) == round(share * count)
    if name in ("cifar100", "stl10", "imagenet_resized/32x32"):
        # Train and validation share TFDS's train split; test is the next. (The
        # other datasets are JPEGs, in which numbers are not exact.)
        both = sorted(found["train"] + found["validation"])
        assert both == list(range(count))
        expected = 1000 + np.arange(len(found["test"]))
        assert sorted(found["test"]) == expected.tolist()
    folded = open_split(name, "train", 32, True, str(tmp_path))
    assert len(folded.labels) == count


@pytest.mark.parametrize("name", ["cifar100", "imagenet_resized/32x32"])
def test_splits_do_not_depend_on_the_order_on_disk(name, tmp_path, monkeypatch):
    found = []
    for order in ("first", "second"):
        data_dir = tmp_path / order
        prepare_tfds.prepare(name, data_dir, monkeypatch, prefix=order)
        examples = load_examples(name, "validation", 32, data_dir=str(data_dir))
        found.append(numbers(examples.images).tolist())
    on_disk = [
        TFDSRecords(name, "train", str(tmp_path / order)).labels.tolist()
        for order in ("first", "second")
    ]
    assert on_disk[0] != on_disk[1]
    assert found[0] == found[1]


def test_damaged_tfds_files(tmp_path, monkeypatch):
    prepare_tfds.prepare("stl10", tmp_path, monkeypatch)
    arguments = ("stl10", "train", 32, False, str(tmp_path))
    dataset = image_dataset("stl10", "train", 32, 4, data_dir=str(tmp_path))
    (file,) = tmp_path.rglob("stl10-train.tfrecord*")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(tf.errors.OpError, match="is truncated. Prepare stl10"):
        list(dataset)
    with pytest.raises((ValueError, tf.errors.OpError), match="stl10-train"):
        open_split(*arguments)


def test_labels_that_are_no_class(tmp_path, monkeypatch):
    prepare_tfds.prepare("stl10", tmp_path, monkeypatch)
    builder = tfds_records._prepared_builder("stl10", str(tmp_path))
    label = type(builder.info.features["label"])
    monkeypatch.setattr(label, "names", ["airplane", "bird"])
    with pytest.raises(ValueError, match="has label [2-9], and there are 2"):
        open_split("stl10", "train", 32, data_dir=str(tmp_path))


def test_imagenet_pictures(shared):
    """Real JPEGs of all shapes: crops of the paper's sizes, down to 32x32."""
    data_dir = str(shared / "data" / "tfds")
    arguments = {
        "name": "imagenet2012",
        "split": "train",
        "input_resolution": 32,
        "batch_size": 16,
        "data_dir": data_dir,
    }
    centre = next(iter(image_dataset(**arguments)))[0].numpy()
    again = next(iter(image_dataset(**arguments)))[0].numpy()
    np.testing.assert_array_equal(centre, again)
    assert centre.shape == (16, 32, 32, 3)
    training = image_dataset(**arguments, training=True)
    first = hashes(training, 3)
    assert hashes(image_dataset(**arguments, training=True), 3) == first
    resumed = image_dataset(**arguments, training=True, start_step=1)
    assert hashes(resumed, 2) == first[1:]
    sizes = [
        len(
            open_split(
                "imagenet2012", s, 32, False, arguments["data_dir"]
            ).labels
        )
        for s in ("train", "validation", "test")
    ]
    assert sizes == [307, 13, 100]


def test_openai_tokens(tmp_path):
    generator = np.random.default_rng(0)
    for part, count in (("tr", 30), ("va", 10), ("te", 20)):
        token_ids = generator.integers(0, 512, (count, 16)).astype("int64")
        token_ids[:, 0] = np.arange(count)
        np.save(tmp_path / f"cifar10_{part}X.npy", token_ids)
        labels = np.eye(10, dtype="float32")[np.arange(count) % 10]
        np.save(tmp_path / f"cifar10_{part}Y.npy", labels)
    name = f"npy:{tmp_path / 'cifar10'}"
    for fold, count in ((False, 30), (True, 40)):
        dataset = image_dataset(name, "train", 4, 7, fold_validation=fold)
        token_ids, labels = map(
            np.concatenate, zip(*dataset.as_numpy_iterator())
        )
        assert token_ids.shape == (count, 16)
        assert token_ids.dtype == np.int32
        np.testing.assert_array_equal(labels, token_ids[:, 0] % 10)
    training = image_dataset(name, "train", 4, 10, training=True)
    epoch = np.concatenate([x for x, _ in training.take(3)])
    assert sorted(epoch[:, 0]) == list(range(30))
    np.save(tmp_path / "cifar10_trY.npy", np.zeros((30, 10)))
    with pytest.raises(ValueError, match="expected one-hot labels of 30"):
        image_dataset(name, "train", 4, 7)
    (tmp_path / "cifar10_teY.npy").unlink()
    dataset = image_dataset(name, "test", 4, 7)
    assert next(iter(dataset))[1].numpy().tolist() == [-1] * 7


def test_unprepared_imagenet_says_what_to_place_where(tmp_path):
    message = "ILSVRC2012_img_train.tar .*downloads/manual.*tfds build imagenet"
    with pytest.raises(ValueError, match=message):
        load_examples("imagenet2012", "train", 32, data_dir=str(tmp_path))


def test_interrupted_preparation_is_no_data(tmp_path):
    """As `tfds build` leaves it when it is stopped."""
    (tmp_path / "cifar100" / "3.0.2.incomplete.AB12CD").mkdir(parents=True)
    with pytest.raises(ValueError, match="interrupted `tfds build` starts"):
        load_examples("cifar100", "train", 32, data_dir=str(tmp_path))


def test_unprepared_dataset(tmp_path):
    with pytest.raises(ValueError, match="tfds build cifar10 --data_dir="):
        load_examples("cifar10", "train", 32, data_dir=str(tmp_path))


def test_home_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, file in (
        ("folder:~/x", "x"),
        ("npy:~/x", "x_teX.npy"),
        ("tokens:~/x", "x/test"),
    ):
        with pytest.raises(ValueError, match=str(tmp_path / file)):
            open_split(name, "test", 8)


def test_integers_of_numpy_will_do():
    plain = hashes(digits(seed=3, start_step=2, batch_size=32), 3)
    numpy = digits(
        seed=np.int64(3), start_step=np.int32(2), batch_size=np.uint8(32)
    )
    assert hashes(numpy, 3) == plain
    last = 2**62 // 64
    assert len(hashes(digits(seed=2**31 - 1, start_step=last), 2)) == 2


def test_fingerprints_are_of_names_order_and_labels(monkeypatch):
    found = [
        open_split("digits", split, 8).fingerprint
        for split in ("train", "validation", "test", "train")
    ]
    assert len(set(found)) == 3 and found[0] == found[3]
    loaded = sklearn.datasets.load_digits()
    loaded.target = loaded.target[::-1].copy()
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: loaded)
    assert open_split("digits", "train", 8).fingerprint != found[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "cifar11"}, "Unknown dataset 'cifar11'.*digits, cifar10"),
        ({"split": "dev"}, "Unknown split 'dev'"),
        ({"batch_size": 0}, "batch_size must be an int >= 1"),
        ({"start_step": -1}, "start_step must be an int >= 0"),
        ({"start_step": 2**62}, "start_step must be .* <= 1152921504606846976"),
        ({"batch_size": True}, "batch_size must be an int .* received True"),
        ({"batch_size": 2**31}, "batch_size must be an int .* <= 2147483647"),
        ({"seed": -1}, "seed must be an int >= 0"),
        ({"seed": 2**31}, "seed must be an int .* <= 2147483647"),
        ({"seed": None}, "seed must be an int .* received None"),
        ({"name": None}, "name must be a str, received None"),
        ({"name": "folder:"}, "'folder:' names no path.*'folder:.' is"),
        ({"name": "npy:"}, "'npy:' names no path"),
        ({"name": "tokens:"}, "'tokens:' names no path"),
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
