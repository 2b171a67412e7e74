import hashlib
import json
import shutil

import numpy as np
import pytest
import recipe
from PIL import Image
from tiny import array

import igpt_keras

pytest.importorskip("tensorflow")

from igpt_keras.data import image_dataset  # noqa: E402
from igpt_keras.data import token_cache_writer  # noqa: E402
from igpt_keras.data.sources import token_cache  # noqa: E402
from igpt_keras.data.sources.token_cache import TokenCache  # noqa: E402

PALETTE = np.repeat(np.linspace(-1, 1, 17)[:, None], 3, axis=1)


@pytest.fixture
def flags(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(token_cache_writer, "BATCH_SIZE", 64)
    monkeypatch.setattr(token_cache_writer, "STEPS_PER_SHARD", 8)
    np.save(tmp_path / "palette.npy", PALETTE)
    return {
        "dataset": "digits",
        "input_resolution": 8,
        "palette": tmp_path / "palette.npy",
        "crops": 2,
        "output": tmp_path / "cache",
    }


def tokenize(flags):
    recipe.run("tokenize_dataset", **flags)


@pytest.fixture(scope="module")
def whole_cache(tmp_path_factory):
    """Of one crop, in shards of 512; to be copied."""
    directory = tmp_path_factory.mktemp("whole")
    np.save(directory / "palette.npy", PALETTE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_cache_writer, "BATCH_SIZE", 64)
        patch.setattr(token_cache_writer, "STEPS_PER_SHARD", 8)
        tokenize(
            {
                "dataset": "digits",
                "input_resolution": 8,
                "palette": directory / "palette.npy",
                "crops": 1,
                "output": directory / "cache",
            }
        )
    return directory / "cache"


def digests(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(directory.rglob("*.*"))
    }


def test_holds_the_tokens_of_the_dataset(flags, tmp_path):
    tokenize(flags)
    tokenizer = igpt_keras.PaletteTokenizer(PALETTE)
    for split, training, count in (
        ("train", True, 2 * 1295),
        ("validation", False, 143),
        ("test", False, 359),
    ):
        cache = TokenCache(str(tmp_path / "cache" / split), 64)
        assert len(cache.labels) == count
        # Whatever the batch size, the stream of images is the same.
        dataset = image_dataset("digits", split, 8, 100, training=training)
        images, labels = map(
            np.concatenate, zip(*dataset.take(30).as_numpy_iterator())
        )
        rows = cache.rows.read(np.arange(count))
        np.testing.assert_array_equal(rows, array(tokenizer(images[:count])))
        np.testing.assert_array_equal(cache.labels, labels[:count])
    assert len(list((tmp_path / "cache" / "train").glob("tokens-*.npy"))) == 6
    shard = np.load(tmp_path / "cache" / "train" / "tokens-00000.npy")
    assert shard.dtype == np.uint16 and shard.shape == (512, 64)
    manifest = json.loads(
        (tmp_path / "cache" / "train" / "manifest.json").read_text()
    )
    assert manifest["crops"] == 2 and manifest["rows"] == 2 * 1295
    assert manifest["tokenizer"] == tokenizer.fingerprint


@pytest.mark.parametrize(
    "stop",
    [3, *(pytest.param(n, marks=pytest.mark.large) for n in (4, 13))],
)
def test_stopped_and_continued_is_the_same(stop, flags, tmp_path, monkeypatch):
    """Stopped while a shard is written; each is two files."""
    whole = {**flags, "output": tmp_path / "whole"}
    tokenize(whole)
    written, calls = token_cache.write_shard, []

    def interrupted(path, value):
        calls.append(path)
        if len(calls) == stop:
            path.with_name(f".{path.name}.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        return written(path, value)

    monkeypatch.setattr(token_cache, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tokenize(flags)
    message = "no complete token cache.*again if it was stopped"
    with pytest.raises(ValueError, match=message):
        image_dataset(f"tokens:{flags['output']}", "test", 8, 4)
    before = len(calls)
    tokenize(flags)
    again = [path for path in calls[before:]]
    # Whole shards were kept.
    assert len(again) < 16 - stop + 3
    assert digests(tmp_path / "cache") == digests(tmp_path / "whole")


@pytest.mark.large
def test_training_reads_it(flags, tmp_path):
    tokenize(flags)
    name = f"tokens:{flags['output']}"
    dataset = image_dataset(name, "train", 8, 259, training=True)
    epochs = [x for x, _ in dataset.take(20).as_numpy_iterator()]
    rows = TokenCache(f"{flags['output']}/train", 64).rows.read(np.arange(2590))
    everything = np.sort(rows.view("V256").ravel())
    for epoch in (epochs[:10], epochs[10:]):
        found = np.ascontiguousarray(np.concatenate(epoch))
        np.testing.assert_array_equal(
            np.sort(found.view("V256").ravel()), everything
        )
    assert not np.array_equal(epochs[0], epochs[10])
    resumed = image_dataset(name, "train", 8, 259, training=True, start_step=7)
    np.testing.assert_array_equal(next(iter(resumed))[0], epochs[7])


def test_training_with_another_palette_is_refused(flags, tmp_path):
    tokenize({**flags, "crops": 0})
    other = PALETTE.copy()
    other[3] = [0.5, 0, 0]
    np.save(tmp_path / "other.npy", other)
    refused = recipe.command(
        "pretrain",
        f"--dataset=tokens:{flags['output']}",
        "--input_resolution=8",
        "--preset=igpt_nano",
        f"--run_dir={tmp_path / 'run'}",
        f"--palette={tmp_path / 'other.npy'}",
    )
    assert refused.returncode == 1
    assert "was made with another tokenizer" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_bad_pictures_are_listed_or_end_it(flags, tmp_path, capsys):
    for i in range(20):
        picture = Image.new("RGB", (12, 9), (12 * i, 0, 0))
        (tmp_path / "pictures").mkdir(exist_ok=True)
        picture.save(tmp_path / "pictures" / f"{i}.png")
    (tmp_path / "pictures" / "bad.png").write_bytes(b"")
    folder = {**flags, "dataset": f"folder:{tmp_path / 'pictures'}"}
    with pytest.raises(ValueError, match="bad.png cannot be read"):
        tokenize({**folder, "output": tmp_path / "no"})
    tokenize({**folder, "skip_bad_images": True})
    printed = capsys.readouterr().out
    assert "Left out 1 pictures:" in printed
    assert printed.count("bad.png cannot be read") == 1


def test_refuses(flags, tmp_path):
    tokenize({**flags, "crops": 0})
    message = "holds a cache with another crops, seed"
    with pytest.raises(ValueError, match=message):
        tokenize({**flags, "seed": 1})
    other = {**flags, "output": tmp_path}
    with pytest.raises(ValueError, match="is not empty and holds no token"):
        tokenize(other)
    name = f"tokens:{flags['output']}"
    with pytest.raises(ValueError, match="64 tokens per image, and 1024 were"):
        image_dataset(name, "train", 32, 4)
    with pytest.raises(ValueError, match="holds tokens already"):
        tokenize({**flags, "dataset": name, "output": tmp_path / "again"})
    shard = tmp_path / "cache" / "test" / "tokens-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="tokens-00000.npy is damaged"):
        image_dataset(name, "test", 8, 4)
    manifest = tmp_path / "cache" / "validation" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(ValueError, match="has format 9"):
        image_dataset(name, "validation", 8, 4)
    # The same command mends both.
    tokenize({**flags, "crops": 0})
    for split in ("validation", "test"):
        assert len(next(iter(image_dataset(name, split, 8, 4)))[0]) == 4


def without(shards, word):
    return {name: v for name, v in shards.items() if word not in name}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: {}, "KeyError.*'format'"),
        (lambda m: [], "list indices"),
        (lambda m: {**m, "shards": {}}, "missing or unknown: labels-00000.npy"),
        (lambda m: {**m, "shards": None}, "expected dict, found None"),
        (lambda m: {**m, "shards": list(m["shards"])}, "expected dict"),
        (
            lambda m: {**m, "shards": without(m["shards"], "tokens-00001")},
            "missing or unknown: tokens-00001.npy",
        ),
        (
            lambda m: {**m, "shards": without(m["shards"], "tokens")},
            "missing or unknown",
        ),
        (
            lambda m: {**m, "shards": without(m["shards"], "00002")},
            "counts 1295 rows, and its shards hold 1024",
        ),
        (lambda m: {**m, "rows": 7}, "counts 7 rows"),
        (lambda m: {**m, "class_names": None}, "expected list, found None"),
        (lambda m: {**m, "tokenizer": None}, "expected str, found None"),
        (lambda m: {**m, "vocabulary_size": "17"}, "expected int, found '17'"),
    ],
)
def test_edited_manifests(change, message, whole_cache, tmp_path):
    manifest = shutil.copytree(whole_cache, tmp_path / "copy") / "train"
    manifest = manifest / "manifest.json"
    changed = change(json.loads(manifest.read_text()))
    manifest.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"json is damaged.*{message}"):
        TokenCache(str(manifest.parent), 64)


@pytest.mark.parametrize(
    "key, value",
    [
        ("dataset", "cifar10"),
        ("split", "test"),
        ("input_resolution", 9),
        ("crops", 5),
        ("seed", 9),
        ("images", 1294),
        ("fingerprint", "0"),
        ("tokenizer", "0"),
    ],
)
def test_manifests_that_are_not_of_the_cache(key, value, whole_cache, tmp_path):
    manifest = shutil.copytree(whole_cache, tmp_path / "copy") / "train"
    manifest = manifest / "manifest.json"
    changed = {**json.loads(manifest.read_text()), key: value}
    manifest.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"no train split.*{key} is {value!r}"):
        TokenCache(str(manifest.parent), 64)


def test_a_split_in_place_of_another_is_refused(whole_cache, tmp_path):
    cache = shutil.copytree(whole_cache, tmp_path / "copy")
    shutil.rmtree(cache / "test")
    (cache / "train").rename(cache / "test")
    with pytest.raises(ValueError, match="no test split of its cache: split"):
        image_dataset(f"tokens:{cache}", "test", 8, 4)


def test_without_its_settings_a_cache_says_nothing(whole_cache, tmp_path):
    cache = shutil.copytree(whole_cache, tmp_path / "copy")
    (cache / "settings.json").unlink()
    with pytest.raises(ValueError, match="settings.json is missing or damaged"):
        image_dataset(f"tokens:{cache}", "test", 8, 4)


@pytest.mark.parametrize(
    "file, array, message",
    [
        ("tokens", np.full((512, 64), 17, "uint16"), "holds token 17, .*0, 17"),
        ("tokens", np.zeros((512, 64), "int32"), "holds int32 .512, 64., exp"),
        ("tokens", np.zeros(512, "uint16"), "holds uint16 .512,., expected"),
        ("labels", np.zeros(511, "int32"), "holds int32 .511,., expected"),
        ("labels", np.zeros(512, "int64"), "holds int64 .512,., expected"),
        (
            "labels",
            np.full(512, 10, "int32"),
            "holds labels from 10 to 10",
        ),
    ],
)
def test_shards_that_are_not_what_they_should_be(
    file, array, message, whole_cache, tmp_path
):
    """Whose sha256 the manifest has."""
    directory = shutil.copytree(whole_cache, tmp_path / "copy") / "train"
    name = f"{file}-00000.npy"
    digest = token_cache.write_shard(directory / name, array)
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["shards"][name] = digest
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"{name} is damaged: it {message}"):
        TokenCache(str(directory), 64)


def test_damaged_shards_are_made_again(flags, whole_cache, tmp_path):
    cache = shutil.copytree(whole_cache, tmp_path / "cache")
    train = cache / "train"
    (train / "manifest.json").unlink()
    np.save(train / "tokens-00000.npy", np.full((512, 64), 3, "uint16"))
    content = (train / "labels-00001.npy").read_bytes()
    (train / "labels-00001.npy").write_bytes(content[:200])
    (train / "tokens-00002.npy.sha256").unlink()
    # Also where the manifest is already there.
    (cache / "test" / "tokens-00000.npy").unlink()
    tokenize({**flags, "crops": 1})
    assert digests(cache) == digests(whole_cache)


def test_a_changed_dataset_is_not_continued(flags, tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(30):
        picture = Image.new("RGB", (9, 9), (i, 0, 0))
        picture.save(tmp_path / "pictures" / f"{i}.png")
    flags["dataset"] = f"folder:{tmp_path / 'pictures'}"
    tokenize(flags)
    (tmp_path / "pictures" / "0.png").rename(tmp_path / "pictures" / "x.png")
    message = "dataset changed: .* was started with .* Put the dataset back"
    with pytest.raises(ValueError, match=message):
        tokenize(flags)


def test_one_process_writes(flags, tmp_path, monkeypatch):
    written = token_cache.write_shard
    refused = []

    def write(path, value):
        if not refused:
            refused.append(True)
            with pytest.raises(ValueError, match="Another process writes to"):
                tokenize(flags)
        return written(path, value)

    monkeypatch.setattr(token_cache, "write_shard", write)
    tokenize(flags)
    assert refused


def test_a_wrong_dataset_leaves_nothing_behind(flags, tmp_path):
    with pytest.raises(ValueError, match="Unknown dataset 'digit'"):
        tokenize({**flags, "dataset": "digit"})
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"splits": 3}'])
def test_damaged_settings(content, flags, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "settings.json").write_text(content)
    with pytest.raises(ValueError, match="settings.json is damaged, or of an"):
        tokenize(flags)
