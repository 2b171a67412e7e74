import numpy as np
import pytest
import recipe
import tiny
from PIL import Image

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny.save_preset(tmp_path_factory.mktemp("model") / "preset")


@pytest.fixture
def pictures(tmp_path):
    return tiny.save_pictures(tmp_path / "mine")


def test_pictures_and_back(preset, pictures, tmp_path, capsys):
    output = tmp_path / "deep" / "out"
    flags = {"model": preset, "output": output}
    recipe.run("compress", **flags, picture=[pictures, pictures / "one.png"])
    assert [path.name for path in output.iterdir()] == ["pictures.igpt"]
    assert "every token is the same" in capsys.readouterr().out
    recipe.run("compress", **flags, decompress=output / "pictures.igpt")
    _, tokenizer = igpt_keras.open_weights(preset)
    files = [pictures / f"{name}.png" for name in ("one", "two", "one")]
    seen = igpt_keras.data.open_pictures(files, 4)
    expected = tiny.array(tokenizer.detokenize(tokenizer(seen)))
    for i, picture in enumerate(expected):
        with Image.open(output / f"picture_00{i}.png") as found:
            np.testing.assert_array_equal(np.asarray(found), picture)
    assert len(list(output.iterdir())) == 4


def test_a_dataset_beside_other_codecs(preset, tmp_path, capsys):
    flags = {"model": preset, "output": tmp_path / "out"}
    recipe.run("compress", **flags, dataset="digits", images=70)
    printed = capsys.readouterr().out
    assert "70 pictures of 16 tokens" in printed
    rows = {
        line.rsplit(None, 2)[0]: line.rsplit(None, 2)[1:]
        for line in printed.splitlines()
    }
    bits = {
        name: float(cells[0]) for name, cells in rows.items() if "." in cells[0]
    }
    size = (tmp_path / "out" / "pictures.igpt").stat().st_size
    assert rows["pictures.igpt"][1] == f"{size:,}"
    assert bits["pictures.igpt"] == round(8 * size / (70 * 16), 4)
    coded = bits["pictures.igpt without its header of 46 bytes"]
    assert abs(coded / bits["the model's nats / ln 2"] - 1) < 0.005
    assert {"PNG", "WebP lossless", "bz2", "xz"} < set(bits)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"picture": "notes.png"}, "notes.png cannot be read as a picture"),
        ({"picture": "nowhere"}, "No picture at .*nowhere"),
        ({"decompress": "notes.png"}, "is no file of recipes/compress.py"),
        ({"decompress": "nowhere"}, "No such file .*nowhere"),
        ({"decompress": "short.igpt"}, "cut short"),
        ({"decompress": "other.igpt"}, "another model or tokenizer"),
        ({"output": "notes.png"}, "--output cannot be written"),
        ({"output": "notes.png/out"}, "--output cannot be written"),
        ({"model": "bare"}, "no tokenizer with it"),
        ({"model": "bert"}, "autoregressive"),
    ],
)
def test_bad_input_is_a_sentence(changes, message, preset, pictures, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    model, tokenizer = igpt_keras.open_weights(preset)
    content = igpt_keras.codec.compress(model, tokenizer, tiny.token_ids())
    (tmp_path / "short.igpt").write_bytes(content[:-3])
    model.head.kernel.assign(model.head.kernel * 2)
    content = igpt_keras.codec.compress(model, tokenizer, tiny.token_ids())
    (tmp_path / "other.igpt").write_bytes(content)
    model.save_to_preset(tmp_path / "bare")
    tiny.save_preset(tmp_path / "bert", "bert")
    paths = {name: tmp_path / value for name, value in changes.items()}
    flags = {"model": preset, "output": tmp_path / "out", **paths}
    if "decompress" not in changes:
        flags.setdefault("picture", pictures)
    with pytest.raises((ValueError, OSError), match=message):
        recipe.run("compress", **flags)
    # Nothing is left of what went wrong.
    assert not (tmp_path / "out").exists()
