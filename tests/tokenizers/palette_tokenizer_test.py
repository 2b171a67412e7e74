import hashlib

import keras
import numpy as np
import pytest
import tiny
from sklearn.cluster import KMeans
from tiny import array

from igpt_keras import PaletteTokenizer
from igpt_keras.tokenizers import palette_tokenizer

CORNERS = np.array(
    [[-1, -1, -1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]], "float32"
)


def random_images(count=3, side=8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, side, side, 3)).astype("uint8")


def nearest(images, palette):
    pixels = images.reshape(-1, 3) / 127.5 - 1
    distances = ((pixels[:, None] - palette.astype("float64")) ** 2).sum(-1)
    return distances.argmin(axis=1).reshape(len(images), -1)


@pytest.fixture
def palette():
    return np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype("float32")


@pytest.mark.each_backend
def test_tokens_are_the_nearest_colours(palette):
    images = random_images()
    token_ids = PaletteTokenizer(palette)(images)
    assert keras.backend.standardize_dtype(token_ids.dtype) == "int32"
    np.testing.assert_array_equal(array(token_ids), nearest(images, palette))


@pytest.mark.each_backend
def test_pixels_keep_their_place():
    image = np.zeros((1, 4, 4, 3), "uint8")
    image[0, 0, 3] = [255, 0, 0]
    image[0, 3, 0] = [0, 255, 0]
    image[0, 3, 3] = [0, 0, 255]
    tokenizer = PaletteTokenizer(CORNERS)
    token_ids = array(tokenizer(image))
    assert token_ids[0, [0, 3, 12, 15]].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(array(tokenizer.detokenize(token_ids)), image)


@pytest.mark.each_backend
def test_detokenize_rounds_and_does_not_wrap():
    tokenizer = PaletteTokenizer([[-1.0, 0.0, 1.0], [0.005, 0.999, -0.999]])
    colours = array(tokenizer.detokenize(np.array([[0], [1]], "int32")))
    assert colours.dtype == np.uint8
    # 127.5 rounds to even; 127.5 * 1.005 = 128.1; 254.87; 0.13
    assert colours.reshape(2, 3).tolist() == [[0, 128, 255], [128, 255, 0]]


@pytest.mark.each_backend
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64"])
def test_detokenize_takes_ids_of_any_number_of_bits(dtype):
    tokenizer = tiny.grey_palette(5)
    token_ids = np.array([[0, 4, 2, 1]], dtype)
    colours = array(tokenizer.detokenize(token_ids))
    assert colours.dtype == "uint8"
    expected = tokenizer.colours[token_ids].reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(colours, expected)


def test_dtype_policy_does_not_move_tokens(palette):
    images = random_images(8, 32)
    tokenizer = PaletteTokenizer(palette, dtype="mixed_bfloat16")
    np.testing.assert_array_equal(
        array(tokenizer(images)), nearest(images, palette)
    )
    # What rounding colours to bfloat16 would have done.
    rounded = array(
        keras.ops.cast(keras.ops.cast(palette, "bfloat16"), "float32")
    )
    assert (nearest(images, rounded) != nearest(images, palette)).any()


@pytest.mark.each_backend
@pytest.mark.parametrize("count", [1, 2, 200])
def test_chunks_change_nothing(count, palette, monkeypatch):
    images = random_images(count)
    monkeypatch.setattr(palette_tokenizer, "_CHUNK", 100)
    np.testing.assert_array_equal(
        array(PaletteTokenizer(palette)(images)), nearest(images, palette)
    )


@pytest.mark.each_backend
def test_no_array_of_all_distances(palette, monkeypatch):
    seen = []
    original = PaletteTokenizer._nearest

    def spy(self, pixels):
        seen.append(pixels.shape[0])
        return original(self, pixels)

    monkeypatch.setattr(PaletteTokenizer, "_nearest", spy)
    PaletteTokenizer(palette)(random_images(64, 32))
    assert max(seen) == palette_tokenizer._CHUNK < 64 * 32 * 32


@pytest.mark.compiled
def test_equal_eagerly_and_in_tf_data(palette):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data traces the TensorFlow backend only")
    images = random_images(10)
    tokenizer = PaletteTokenizer(palette)
    eager = array(tokenizer(images))
    dataset = tf.data.Dataset.from_tensor_slices(images)
    for batch in (4, 10):
        batches = dataset.batch(batch).map(tokenizer).as_numpy_iterator()
        np.testing.assert_array_equal(np.concatenate(list(batches)), eager)
    traced = tf.function(tokenizer, autograph=False)
    for _ in range(2):
        np.testing.assert_array_equal(traced(images), eager)
    compiled = tf.function(tokenizer, jit_compile=True, autograph=False)
    np.testing.assert_array_equal(compiled(images), eager)


@pytest.mark.each_backend
def test_fit_finds_the_colours_of_clusters():
    generator = np.random.default_rng(0)
    centres = np.array([[20, 30, 40], [200, 100, 50], [90, 220, 230]])
    pixels = centres[generator.integers(0, 3, 4096)]
    pixels = pixels + generator.integers(-5, 6, pixels.shape)
    images = pixels.reshape(4, 32, 32, 3).astype("uint8")
    tokenizer = PaletteTokenizer.fit(images, vocabulary_size=3)
    found = tokenizer.colours[np.argsort(tokenizer.colours[:, 0])]
    assert np.abs(found - centres[np.argsort(centres[:, 0])]).max() <= 1


def test_fit_beats_random_colours_and_is_seeded():
    images = random_images(4, 16)
    tokenizer = PaletteTokenizer.fit(images, vocabulary_size=16, seed=3)
    again = PaletteTokenizer.fit(images, vocabulary_size=16, seed=3)
    np.testing.assert_array_equal(tokenizer.palette, again.palette)

    def error(tokenizer):
        decoded = array(tokenizer.detokenize(tokenizer(images)))
        return np.mean((decoded.astype(float) - images) ** 2)

    random = images.reshape(-1, 3)[:16] / 127.5 - 1
    assert error(tokenizer) < error(PaletteTokenizer(random))
    errors = [
        error(PaletteTokenizer.fit(images, vocabulary_size=size))
        for size in (2, 8, 32, 128)
    ]
    assert errors == sorted(errors, reverse=True)


def histogram(images):
    return np.unique(images.reshape(-1, 3), axis=0, return_counts=True)


def pixel_error(colours, counts, palette):
    """Mean squared error a channel, in levels of 0 to 255."""
    colours = colours.astype("float64")
    centres = 127.5 * (palette.astype("float64") + 1)
    distances = ((colours[:, None] - centres) ** 2).sum(-1).min(axis=1)
    return (distances * counts).sum() / (3 * counts.sum())


@pytest.mark.each_backend
def test_fit_is_weighted_k_means_over_distinct_colours():
    images = random_images(6, 16) // 8 * 8
    colours, counts = histogram(images)
    assert counts.max() > 1
    k_means = KMeans(20, n_init=1, random_state=3)
    k_means.fit(colours / 127.5 - 1, sample_weight=counts)
    centres = np.clip(k_means.cluster_centers_, -1, 1)
    luminance = centres @ [0.299, 0.587, 0.114]
    expected = centres[np.argsort(luminance)].astype("float32")
    for tokenizer in (
        PaletteTokenizer.fit(images, 20, seed=3),
        PaletteTokenizer.fit_histogram(colours, counts, 20, seed=3),
    ):
        np.testing.assert_array_equal(tokenizer.palette, expected)


@pytest.mark.each_backend
def test_rounds_report_an_error_that_never_rises():
    colours, counts = histogram(random_images(4, 32))
    rounds = []

    def fit(**options):
        return PaletteTokenizer.fit_histogram(
            colours, counts, vocabulary_size=24, **options
        ).palette

    reported = fit(on_round=lambda *values: rounds.append(values))
    # Rounding aside, it is the same as without reports.
    np.testing.assert_allclose(reported, fit(), atol=1e-6)
    iterations, errors = zip(*rounds)
    assert len(rounds) > 2
    assert iterations[:2] == (10, 20)
    assert all(np.diff(errors) <= 0) and errors[-1] < errors[0]
    expected = pixel_error(colours, counts, reported)
    np.testing.assert_allclose(errors[-1], expected, rtol=1e-6)
    rounds.clear()
    fit(max_iterations=13, on_round=lambda *values: rounds.append(values))
    assert [iterations for iterations, _ in rounds] == [10, 13]


@pytest.mark.each_backend
def test_starting_from_some_pixels_uses_all():
    colours, counts = histogram(random_images(4, 32) // 2)

    def fit(seed=0, start_pixels=300, weights=counts):
        return PaletteTokenizer.fit_histogram(
            colours, weights, 16, seed, start_pixels
        ).palette

    palette = fit()
    np.testing.assert_array_equal(palette, fit())
    assert (palette != fit(seed=1)).any()
    assert (palette != fit(start_pixels=10**6)).any()
    errors = [
        pixel_error(colours, counts, x)
        for x in (palette, fit(start_pixels=10**6), colours[:16] / 127.5 - 1)
    ]
    assert errors[0] < 1.05 * errors[1] < 0.7 * errors[2]
    # Weights need not be whole, and their scale is nothing.
    scaled = fit(start_pixels=10**9, weights=counts / 4)
    np.testing.assert_array_equal(scaled, fit(start_pixels=10**9))


@pytest.mark.each_backend
def test_one_colour_nearly_everywhere():
    """The pixels to start from have fewer colours than the palette is to."""
    colours, counts = histogram(random_images(1, 8))
    counts[0] = 10**12
    tokenizer = PaletteTokenizer.fit_histogram(colours, counts, 16)
    assert tokenizer.vocabulary_size == 16
    assert (tokenizer.colours == colours[0]).all(axis=1).any()


@pytest.mark.parametrize(
    "colours, counts",
    [
        (np.zeros((2, 3)), [1, 1]),
        (np.zeros((2, 4), "uint8"), [1, 1]),
        (np.zeros((2, 3), "uint8"), [1]),
        (np.zeros((2, 3), "uint8"), 2),
        (np.eye(3).astype("uint8"), [1, 0, 1]),
        (np.eye(3).astype("uint8"), [1, np.nan, 1]),
        (np.zeros((0, 3), "uint8"), []),
    ],
)
def test_refuses_bad_histograms(colours, counts):
    with pytest.raises(ValueError, match="A palette needs uint8 colours"):
        PaletteTokenizer.fit_histogram(colours, counts)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "8", True, None])
@pytest.mark.parametrize(
    "name", ["vocabulary_size", "max_pixels", "start_pixels", "max_iterations"]
)
def test_refuses_numbers_that_are_not_whole(name, wrong):
    message = f"{name} must be a positive int, received {wrong!r}"
    with pytest.raises(ValueError, match=message):
        if name == "max_pixels":
            PaletteTokenizer.fit(random_images(), max_pixels=wrong)
        else:
            colours, counts = histogram(random_images())
            PaletteTokenizer.fit_histogram(colours, counts, **{name: wrong})


def test_takes_integers_of_numpy():
    images = random_images()
    tokenizer = PaletteTokenizer.fit(images, vocabulary_size=np.int64(7))
    assert tokenizer.vocabulary_size == 7
    assert type(tokenizer.vocabulary_size) is int


@pytest.mark.each_backend
def test_fewer_colours_than_asked_for():
    images = np.zeros((2, 4, 4, 3), "uint8")
    images[0, :2] = [255, 0, 0]
    images[1, :, 3] = [7, 8, 9]
    tokenizer = PaletteTokenizer.fit(images, vocabulary_size=8)
    assert tokenizer.vocabulary_size == 3
    assert np.isfinite(tokenizer.palette).all()
    np.testing.assert_array_equal(
        array(tokenizer.detokenize(tokenizer(images))), images
    )


@pytest.mark.each_backend
def test_no_cluster_is_empty():
    images = random_images(2, 16)
    tokenizer = PaletteTokenizer.fit(images, vocabulary_size=256)
    token_ids = array(tokenizer(images))
    assert len(np.unique(token_ids)) == tokenizer.vocabulary_size == 256


@pytest.mark.each_backend
def test_openai_palette_round_trips(shared):
    path = shared / "data" / "openai_palette" / "kmeans_centers.npy"
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith("c614a3d27f02fd6c")
    tokenizer = PaletteTokenizer(path)
    assert tokenizer.vocabulary_size == 512
    token_ids = np.arange(512).reshape(2, 256).astype("int32")
    colours = tokenizer.detokenize(token_ids)
    np.testing.assert_array_equal(array(tokenizer(colours)), token_ids)
    images = random_images(4, 32)
    np.testing.assert_array_equal(
        array(tokenizer(images)), nearest(images, tokenizer.palette)
    )


@pytest.mark.each_backend
def test_saves_and_loads(palette, tmp_path):
    tokenizer = PaletteTokenizer(palette)
    tokenizer.save_palette(tmp_path / "palette.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "palette.npy"), palette)
    opened = PaletteTokenizer(str(tmp_path / "palette.npy"))
    np.testing.assert_array_equal(opened.palette, palette)
    config = keras.saving.serialize_keras_object(tokenizer)
    copy = keras.saving.deserialize_keras_object(config, safe_mode=True)
    np.testing.assert_array_equal(copy.palette, palette)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, 4, 4, 1), "uint8"), "Greyscale: repeat"),
        (np.zeros((2, 4, 4, 4), "uint8"), "Alpha: flatten"),
        (np.zeros((2, 4, 4, 3), "float32"), "received float32"),
        (np.zeros((4, 4, 3), "uint8"), "Add a batch axis"),
        (np.zeros((2, 4, 5, 3), "uint8"), "Crop to a square"),
        ([np.zeros((4, 4, 3), "uint8")] * 2, "one array"),
        (None, "received a NoneType"),
        (np.zeros((4, 4), "uint8"), r"received \(4, 4\)\.(?! Grey)"),
    ],
)
def test_refuses_bad_images(images, message, palette):
    with pytest.raises(ValueError, match=message):
        PaletteTokenizer(palette)(images)


def test_fit_refuses_bad_images():
    mixed = [np.zeros((4, 4, 3), "uint8"), np.zeros((5, 5, 3), "uint8")]
    with pytest.raises(ValueError, match="images have different sizes"):
        PaletteTokenizer.fit(mixed)
    with pytest.raises(ValueError, match="received float64"):
        PaletteTokenizer.fit(np.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="at least one pixel"):
        PaletteTokenizer.fit(np.zeros((0, 4, 4, 3), "uint8"))


@pytest.mark.parametrize(
    "palette, message",
    [
        (np.zeros((4, 2)), r"floats of shape \(V, 3\)"),
        (np.zeros((4, 3), "uint8"), "colours / 127.5 - 1"),
        (np.array([[0.0, 0, 2], [0, 0, 0]]), r"in \[-1, 1\]"),
        (np.array([[0.0, 0, np.nan], [0, 0, 0]]), "must be finite"),
        (np.zeros((2, 3)), "a colour twice"),
        (np.zeros((0, 3)), r"of shape \(0, 3\)"),
        (0.5, r"of shape \(\)"),
        (None, "received object"),
        ([[0.0, 0.0, 1.0], [0.5]], "rows of different lengths"),
    ],
)
def test_refuses_bad_palettes(palette, message):
    with pytest.raises(ValueError, match=message):
        PaletteTokenizer(palette)


def test_refuses_bad_palette_files(tmp_path):
    path = tmp_path / "palette.npy"
    with pytest.raises(ValueError, match="No palette at"):
        PaletteTokenizer(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is no palette"):
        PaletteTokenizer(path)
    path.write_bytes(b"not an array")
    with pytest.raises(ValueError, match="is no palette"):
        PaletteTokenizer(path)
    # A header that promises terabytes.
    header = b"{'descr': '<f4', 'fortran_order': False, "
    header += b"'shape': (999999999999, 3), }"
    header += b" " * (117 - len(header)) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00v\x00" + header)
    with pytest.raises(ValueError, match="is no palette"):
        PaletteTokenizer(path)


@pytest.mark.parametrize(
    "token_ids, message",
    [
        (np.zeros((2, 5), "int32"), "a square number"),
        (np.zeros(4, "int32"), "a square number"),
        (np.zeros((2, 4)), "must be integers"),
        (np.full((2, 4), 5), r"must be in \[0, 5\)"),
        (np.full((2, 4), -1), r"must be in \[0, 5\)"),
        (np.full((2, 4), 2**32), r"must be in \[0, 5\), received 4294967296"),
        (np.zeros((2, 4), bool), "must be integers, received bool"),
        (np.int64(3), r"received \(\)"),
        (3, "must be an array, received a int"),
        ([[0, 1, 2, 3]], "must be an array, received a list"),
    ],
)
def test_detokenize_refuses_bad_ids(token_ids, message):
    with pytest.raises(ValueError, match=message):
        PaletteTokenizer(CORNERS).detokenize(token_ids)


@pytest.mark.each_backend
def test_no_images_give_no_tokens():
    tokenizer = PaletteTokenizer(CORNERS)
    token_ids = tokenizer(np.zeros((0, 4, 4, 3), "uint8"))
    assert tuple(token_ids.shape) == (0, 16)
    assert tuple(tokenizer.detokenize(token_ids).shape) == (0, 4, 4, 3)


def test_what_is_traced_is_refused_by_dtype_and_shape():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data traces the TensorFlow backend only")
    tokenizer = PaletteTokenizer(CORNERS)
    ids = tf.data.Dataset.from_tensors(np.zeros((2, 4), "float32"))
    with pytest.raises(ValueError, match="must be integers, received float32"):
        ids.map(tokenizer.detokenize)
    images = tf.data.Dataset.from_generator(
        lambda: iter([]), output_signature=tf.TensorSpec([None] * 3 + [3])
    )
    with pytest.raises(ValueError, match="the side is not known before"):
        images.map(tokenizer)


@pytest.mark.parametrize(
    "spread", [1.0, 1e-3, pytest.param(0.1, marks=pytest.mark.large)]
)
def test_candidates_never_miss_the_nearest(spread):
    """All 512 colours compared, for palettes wide and crowded."""
    generator = np.random.default_rng(0)
    palette = generator.uniform(-1, 1, (512, 3)) * spread
    tokenizer = PaletteTokenizer(palette)
    images = generator.integers(0, 256, (4, 64, 64, 3), "uint8")
    near_grey = generator.integers(120, 136, (4, 64, 64, 3), "uint8")
    for batch in (images, near_grey):
        pixels = batch.reshape(-1, 1, 3).astype("float32") / 127.5 - 1
        distance = np.square(pixels - palette.astype("float32")).sum(axis=-1)
        chosen = array(tokenizer(batch)).reshape(-1)
        least = distance.min(axis=1)
        found = distance[np.arange(len(chosen)), chosen]
        np.testing.assert_allclose(found, least, atol=1e-6)
        assert (chosen == distance.argmin(axis=1)).mean() > 0.999
