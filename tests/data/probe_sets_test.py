import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import data  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    """Forty pictures of two classes, which their brightness tells apart."""
    generator = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 128)):
        (tmp_path / "my pictures" / label).mkdir(parents=True)
        for i in range(20):
            pixels = generator.integers(low, low + 128, (8, 8, 3), "uint8")
            path = tmp_path / "my pictures" / label / f"{i}.png"
            Image.fromarray(pixels).save(path)
    return f"folder:{tmp_path / 'my pictures'}"


def test_each_has_its_own_splits_and_classes(folder):
    own = data.open_splits("digits", 4)
    assert data.open_probe_splits(own) == {data.OWN: own}
    found = data.open_probe_splits(own, ["digits", folder], 4)
    assert list(found) == ["digits", "my_pictures"]
    sizes = {
        name: {split: len(part) for split, part in splits.items()}
        for name, splits in found.items()
    }
    assert sizes == {
        "digits": {"train": 1295, "validation": 143, "test": 359},
        "my_pictures": {"train": 28, "validation": 4, "test": 8},
    }
    test = found["my_pictures"]["test"]
    assert test.class_names == ("dark", "light")
    assert test.input_resolution == 4
    assert data.open_probe_splits(own, []) == {}


def test_names_are_apart(folder, tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ValueError, match="'my_pictures', which is another"):
        data.open_probe_splits({}, [folder, folder], 4)
    for path in ("validation", "."):
        with pytest.raises(ValueError, match="--probe_datasets would call"):
            data.open_probe_splits({}, [f"folder:{path}"], 4)
    with pytest.raises(ValueError, match="Unknown dataset 'cifar11'"):
        data.open_probe_splits({}, ["cifar11"], 4)


def test_sets_are_as_large_as_asked(folder):
    (splits,) = data.open_probe_splits({}, [folder], 4).values()
    palette = np.linspace(-1, 1, 12).reshape(4, 3)
    sets = data.TokenSets(igpt_keras.PaletteTokenizer(palette), batch_size=8)
    found = data.evaluation_sets(sets, splits, "mine", 10, 3)
    assert found.name == "mine"
    # Of each class its share.
    assert np.bincount(found.train.labels).tolist() == [5, 5]
    assert len(found.validation.labels) == len(found.test.labels) == 3
    first = splits["test"].labels[:3]
    np.testing.assert_array_equal(found.test.labels, first)
    whole = data.evaluation_sets(sets, splits, "mine")
    assert len(whole.train.labels) == 28


def test_tokens_of_the_own_dataset_are_kept_once(folder):
    """Those that the loss is of are those that the probe takes."""
    splits = data.open_splits(folder, 4)
    palette = np.linspace(-1, 1, 12).reshape(4, 3)
    sets = data.TokenSets(igpt_keras.PaletteTokenizer(palette), batch_size=8)
    own, probed = data.run_sets(
        sets, splits, data.open_probe_splits(splits), 10, 3
    )
    assert len(probed) == 1 and probed[0] is own and own.name == data.OWN
    others = data.open_probe_splits(splits, [folder], 4)
    own, probed = data.run_sets(sets, splits, others)
    assert [part.name for part in probed] == ["my_pictures"]
    assert own.name == data.OWN and len(own.validation.labels) == 4
