"""Several sources in one stream: exact shares, from any step, by any worker."""

import numpy as np
import pytest
from PIL import Image

import igpt_keras
from igpt_keras import reports

tf = pytest.importorskip("tensorflow")

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import load_examples  # noqa: E402
from igpt_keras.data import mixture_sources  # noqa: E402
from igpt_keras.data import open_split  # noqa: E402
from igpt_keras.data import open_splits  # noqa: E402
from igpt_keras.data import open_splits_for  # noqa: E402
from igpt_keras.data import write_token_cache  # noqa: E402
from igpt_keras.data.mixture_order import BLOCK  # noqa: E402
from igpt_keras.data.mixture_order import mixed  # noqa: E402
from igpt_keras.data.mixture_order import shuffled_sources  # noqa: E402
from igpt_keras.data.order import shuffled  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def mine(tmp_path):
    """Forty pictures of one colour each, larger than what is trained on."""
    (tmp_path / "mine").mkdir()
    for i in range(40):
        picture = Image.new("RGB", (12, 9), (200, 6 * i, 0))
        picture.save(tmp_path / "mine" / f"{i}.png")
    return f"folder:{tmp_path / 'mine'}"


def drawn(parts, count, seed=0, start=0):
    """Sources and places in them, `(count,)` each."""
    order = tf.data.Dataset.range(start, start + count)
    source, place = next(iter(mixed(order, parts, seed).batch(count)))
    return source.numpy(), place.numpy()


def read(dataset, count):
    images, labels = zip(*dataset.take(count).as_numpy_iterator())
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("parts", [(9, 1), (1, 1, 1), (2, 5, 400, 3), (1, 999)])
def test_shares_are_exact_in_blocks_and_close_before_any_place(parts):
    parts = np.array(parts)
    block = parts.sum() * -(-BLOCK // parts.sum())
    assert BLOCK <= block < BLOCK + parts.sum()
    source, _ = drawn(parts, 4 * block)
    own = source[:, None] == np.arange(len(parts))
    shares = parts / parts.sum()
    for window in own.reshape(4, block, -1):
        np.testing.assert_array_equal(window.sum(axis=0), block * shares)
    # Before a place it is a sample without replacement of the block.
    before = np.cumsum(own, axis=0)
    expected = np.arange(1, len(own) + 1)[:, None] * shares
    error = np.sqrt(block * shares * (1 - shares)) / 2
    assert (np.abs(before - expected) <= 4 * error + 1).all()


@pytest.mark.parametrize("start", [0, 1, 999, 1000, 2345, 10**6 + 7])
def test_draws_are_counted_from_any_place(start):
    """Each source's places follow on, without what came before them."""
    source, place = drawn((7, 2, 1), 2500, start=start)
    before = start // 1000 * 1000
    skipped = drawn((7, 2, 1), 1000, start=before)[0][: start - before]
    for k, part in enumerate((7, 2, 1)):
        first = before * part // 10 + np.count_nonzero(skipped == k)
        own = place[source == k]
        np.testing.assert_array_equal(own, first + np.arange(len(own)))


def test_blocks_and_seeds_differ_and_places_are_drawn_from_a_hat():
    source, _ = drawn((3, 1), 50_000)
    blocks = source.reshape(-1, 1000)
    others = [drawn((3, 1), 1000, seed)[0] for seed in (1, 2**31 - 1)]
    assert len(np.unique([*blocks, *others], axis=0)) == 52
    # Neighbours, and the same place of the next block, are uncorrelated.
    centred = (blocks - 0.25) / np.sqrt(0.25 * 0.75)
    for products in (
        centred[:, 1:] * centred[:, :-1],
        centred[1:] * centred[:-1],
    ):
        means = products.mean(axis=1)
        error = means.std() / np.sqrt(len(means))
        # Without replacement the next is a thousandth less alike.
        assert abs(means.mean() + 0.0005) < 4 * error + 0.0005


def test_each_source_goes_through_epochs_of_its_own():
    """The first as it does alone; no two sources in the same order."""
    places = mixed(tf.data.Dataset.range(3000), (2, 2, 1), 5)
    order = shuffled_sources(places, (50, 50, 35), 5)
    source, index, image_seed = (
        x.numpy() for x in next(iter(order.batch(3000)))
    )
    streams = [index[source == k] for k in range(3)]
    for stream, count in zip(streams, (50, 50, 35)):
        epochs = stream[: len(stream) // count * count].reshape(-1, count)
        assert len(epochs) >= 17
        everyone = np.tile(np.arange(count), (len(epochs), 1))
        np.testing.assert_array_equal(np.sort(epochs), everyone)
        assert len(np.unique(epochs, axis=0)) == len(epochs)
    alone = shuffled(tf.data.Dataset.range(1200), 50, 5)
    alone, seeds = (x.numpy() for x in next(iter(alone.batch(1200))))
    np.testing.assert_array_equal(streams[0], alone)
    np.testing.assert_array_equal(image_seed[source == 0], seeds)
    assert (streams[1] == alone).mean() < 0.1
    # Of no two images of the stream the same is random.
    assert len(np.unique(image_seed, axis=0)) == 3000


def test_images_are_of_their_sources_in_one_size(mine):
    mixture = open_split(f"digits:3,{mine}:1", "train", 8)
    images, labels = read(mixture.batches(1000, True), 4)
    assert images.shape == (4000, 8, 8, 3) and images.dtype == np.uint8
    pictures = images[..., 0].min(axis=(1, 2)) == 200
    assert pictures.sum() == 1000
    np.testing.assert_array_equal(labels == -1, pictures)
    # A digit is what it is labelled as: 3,000 are two epochs and a part.
    counts = np.bincount(mixture.sources[0].labels)
    seen = np.bincount(labels[~pictures], minlength=10)
    assert (seen >= 2 * counts).all() and (seen <= 3 * counts).all()
    # All pictures as often, but for the epoch that is not over.
    train = len(mixture.sources[1])
    _, times = np.unique(images[pictures, 0, 0, 1], return_counts=True)
    assert len(times) == train
    assert set(times) <= {1000 // train, 1000 // train + 1}


def test_labels_are_of_the_first_source_alone(mine):
    swapped = open_split(f"{mine}:1,digits:3", "train", 8)
    _, labels = read(swapped.batches(100, True), 1)
    assert set(labels) == set(swapped.labels) == {-1}
    assert swapped.class_names == ()


def test_any_step_can_be_started_from(mine):
    mixture = open_split(f"digits:0.9,{mine}:0.1", "train", 8)
    whole, labels = read(mixture.batches(64, True, 3), 24)
    assert len(np.unique(whole, axis=0)) > 1000
    for step in (1, 17):
        rest = mixture.batches(64, True, 3, start_step=step)
        images, rest_labels = read(rest, 24 - step)
        np.testing.assert_array_equal(images, whole[64 * step :])
        np.testing.assert_array_equal(rest_labels, labels[64 * step :])
    other, _ = read(mixture.batches(64, True, 4), 2)
    assert (other != whole[:128]).any(axis=(1, 2, 3)).mean() > 0.9


def test_workers_share_each_batch(mine):
    """Two workers of two replicas read what one would have read."""
    mixture = open_split(f"digits:0.5,{mine}:0.5", "train", 8)
    whole, _ = read(mixture.batches(32, True, start_step=30), 7)
    parts = []
    for worker in range(2):
        context = tf.distribute.InputContext(2, worker, 4)
        part = mixture.batches(32, True, 0, 30, context)
        assert next(iter(part))[0].shape[0] == 8
        parts.append(read(part, 14)[0].reshape(7, 16, -1))
    np.testing.assert_array_equal(
        np.concatenate(parts, axis=1).reshape(whole.shape), whole
    )


def test_a_batch_says_what_it_is_made_of(mine):
    mixture = open_split(f"digits:0.5,{mine}:0.5", "train", 8)
    text = mixture.describe_batch(16, 3, 5)
    _, labels = read(mixture.batches(16, True, 3, start_step=5), 1)
    found = {}
    for part in text.split("; "):
        indices, name = part.removeprefix("examples ").split(" of ")
        found[name] = [int(index) for index in indices.split(", ")]
    digits = mixture.sources[0].labels[found["digits"]]
    np.testing.assert_array_equal(labels[labels >= 0], digits)
    assert len(found[mine]) == np.count_nonzero(labels < 0) > 0


def test_what_is_evaluated_is_the_first_source(mine):
    splits = open_splits(f"digits:0.5,{mine}:0.5")
    alone = open_splits("digits")
    mixture = splits["train"]
    assert mixture.input_resolution == 8 and len(mixture.class_names) == 10
    assert len(mixture) == 1295 + len(mixture.sources[1]) == len(mixture.labels)
    for name in ("validation", "test"):
        assert splits[name].name == "digits"
        assert splits[name].fingerprint == alone[name].fingerprint
    probed = mixture.stratified(100)
    np.testing.assert_array_equal(
        probed.labels, alone["train"].stratified(100).labels
    )
    swapped = open_splits(f"{mine}:0.5,digits:0.5")
    assert swapped["test"].name == mine
    assert swapped["test"].input_resolution == 32


def test_fold_validation_folds_each_source(mine):
    name = f"digits:0.5,{mine}:0.5"
    folded = open_split(name, "train", fold_validation=True)
    assert [len(source) for source in folded.sources] == [
        len(open_split(one, "train", fold_validation=True))
        for one in ("digits", mine)
    ]
    train = open_split(name, "train")
    assert train.with_validation().fingerprint == folded.fingerprint
    assert len(folded) > len(train)


def test_fingerprints_are_of_sources_and_weights(mine):
    names = (
        f"digits:0.5,{mine}:0.5",
        f"digits:0.6,{mine}:0.4",
        f"{mine}:0.5,digits:0.5",
    )
    found = [open_split(name, "train", 8).fingerprint for name in names]
    assert len(set(found)) == 3
    same = open_split(f"digits:7, {mine}:7.0", "train", 8)
    assert same.fingerprint == found[0]


def test_a_sample_is_in_shares(mine):
    """A palette is fitted on what is trained on, unaugmented."""
    mixture = open_split(f"digits:1,{mine}:3", "train", 8)
    images, labels = read(mixture.sample(100), -1)
    assert len(images) == len(mixture)
    assert abs((labels < 0).mean() - 0.75) < 0.03
    digits = load_examples("digits", "train", 8).images
    known = {image.tobytes() for image in digits}
    assert all(image.tobytes() in known for image in images[labels >= 0])


def test_shares_are_said(mine):
    splits = open_splits(f"digits:2,{mine}:1", 8)
    count = len(splits["train"].sources[1])
    assert reports.describe_splits(splits).split("\n") == [
        f"{1295 + count:,} train, 143 validation, 359 test images of 10 "
        "classes",
        "Trained on in shares:",
        "  66.67 % digits, 1,295 images",
        f"  33.33 % {mine}, {count} images",
        "Classes, validation and test are of digits.",
    ]


def test_sources_and_their_weights():
    name = "imagenet_resized/32x32:0.75, folder:/a:b/c:.25,cifar10:1"
    assert mixture_sources(name) == [
        ("imagenet_resized/32x32", 3),
        ("folder:/a:b/c", 1),
        ("cifar10", 4),
    ]
    # Decimal numbers are meant as they are written.
    assert mixture_sources("digits:0.1,stl10:0.3") == [
        ("digits", 1),
        ("stl10", 3),
    ]
    # Without a comma there is one dataset, whatever its name.
    for name in ("digits", "folder:/data/a:0.5", "npy:x"):
        assert mixture_sources(name) == []


@pytest.mark.parametrize(
    "weights",
    ["digits,cifar10:1", "digits:1,cifar10", "digits:0,cifar10:1"]
    + [f"digits:{x},cifar10:1" for x in ("-1", "x", "nan", "inf", "", "1e3")]
    + ["digits:1,", "folder:/a,b", "digits:1,:1"],
)
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="no weight, a number > 0"):
        open_split(weights, "train")


def test_what_cannot_be_mixed():
    for name, message in (
        ("digits:1,digits:2", "mixes digits with itself"),
        ("digits:1,npy:x:1", "mixes tokens"),
        ("tokens:x:1,tokens:y:1", "mixes tokens"),
        ("digits:1,folder::1", "names no path"),
        ("digits:1,nothing:1", "Unknown dataset 'nothing'"),
        ("digits:0.1234567,stl10:1", "11,234,567 parts, and 1,000,000"),
    ):
        with pytest.raises(ValueError, match=message):
            open_split(name, "train")


def test_a_folder_with_a_weight_in_its_name(tmp_path):
    (tmp_path / "a:0.5").mkdir()
    for i in range(20):
        picture = Image.new("RGB", (4, 4), (i, 0, 0))
        picture.save(tmp_path / "a:0.5" / f"{i}.png")
    name = f"folder:{tmp_path / 'a:0.5'}"
    splits = open_splits(name)
    assert sum(map(len, splits.values())) == 20
    assert splits["train"].name == name


def test_a_mixture_is_not_evaluated(mine, tmp_path):
    name = f"digits:0.5,{mine}:0.5"
    tokenizer = igpt_keras.PaletteTokenizer([[-1.0, -1, -1], [1.0, 1, 1]])
    splits = open_splits(name)
    sets = igpt_keras.data.TokenSets(tokenizer, 32)
    for evaluate in (
        lambda: image_dataset(name, "train", 8, 32),
        lambda: sets.evaluation(splits["train"], 10),
        lambda: open_splits_for(tokenizer, 64, name),
        lambda: list(write_token_cache(tmp_path / "x", splits, tokenizer)),
    ):
        with pytest.raises(ValueError, match="a mixture, which pretraining"):
            evaluate()
    assert not (tmp_path / "x").exists()
