import sys
import threading

import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.storage.atomic_directory import atomic_directory
from igpt_keras.storage.atomic_directory import read_whole
from igpt_keras.tokenizers.open_tokenizer import open_tokenizer

# The function of the same name hides the module in its package.
opening = sys.modules["igpt_keras.conversion.open_weights"]


@pytest.mark.parametrize("with_head", [False, True])
def test_is_what_save_to_preset_writes(with_head, tmp_path):
    model = tiny.model(dropout=0.1)
    if with_head:
        model = igpt_keras.IGPTClassifier(model, 5)
    tokenizer = tiny.grey_palette()
    writer = igpt_keras.PresetWriter(model, tmp_path / "one", tokenizer)
    arrays = [tiny.array(variable) for variable in model.variables]
    model.save_to_preset(tmp_path / "two", tokenizer)
    # What the model has become since does not matter.
    for variable in model.weights:
        variable.assign(variable + 1)
    (tmp_path / ".one-killed").mkdir()
    writer(arrays)
    assert not (tmp_path / ".one-killed").exists()
    names = {path.name for path in (tmp_path / "two").iterdir()}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for name in names:
        one, two = ((tmp_path / d / name).read_bytes() for d in ("one", "two"))
        assert one == two, name


def test_refuses_before_training(tmp_path):
    with pytest.raises(ValueError, match="has 11 tokens and tokenizer, a"):
        igpt_keras.PresetWriter(
            tiny.model(), tmp_path / "preset", tiny.grey_palette(5)
        )
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="exists and is not a preset"):
        igpt_keras.PresetWriter(tiny.model(), tmp_path)


def read_until(done, read):
    """What a thread reads meanwhile, or the error that it met."""
    found = []

    def loop():
        try:
            while not done.is_set():
                found.append(read())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    return thread, found


def test_a_reader_never_sees_half_a_directory(tmp_path):
    names = ["one.txt", "two.txt"]

    def write(number):
        with atomic_directory(tmp_path / "preset", names) as staged:
            for name in names:
                (staged / name).write_text(str(number))

    def read():
        texts = [(tmp_path / "preset" / name).read_text() for name in names]
        return set(texts)

    write(-1)
    done = threading.Event()
    thread, found = read_until(
        done, lambda: read_whole(tmp_path / "preset", names[0], read)
    )
    for number in range(100):
        write(number)
    done.set()
    thread.join()
    assert len(found) > 3
    for texts in found:
        assert not isinstance(texts, Exception), texts
        assert len(texts) == 1


def test_what_fails_while_a_directory_goes_is_read_again(tmp_path):
    """A file that is gone, once; half a file would be as well."""
    numbers = []

    def read():
        numbers.append(len(numbers))
        if len(numbers) < 3:
            with atomic_directory(tmp_path / "preset", ["file"]) as staged:
                (staged / "file").write_text(str(len(numbers)))
            raise FileNotFoundError("model.safetensors")
        return (tmp_path / "preset" / "file").read_text()

    assert read_whole(tmp_path / "preset", "file", read) == "2"


def test_what_is_wrong_with_a_directory_that_stays_is_said(tmp_path):
    def read():
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        read_whole(tmp_path, "nothing", read)


def test_weights_open_while_they_are_replaced(tmp_path, monkeypatch):
    """A run's directory: weights and tokenizer of one time, the last one."""
    model = tiny.model(num_layers=1)
    run = tmp_path / "run"
    palettes = [
        igpt_keras.PaletteTokenizer(tiny.grey_palette().palette * share)
        for share in (1.0, 0.9, 0.8)
    ]

    def write(number):
        writer = igpt_keras.PresetWriter(
            model, run / "preset", palettes[number]
        )
        writer([np.full(v.shape, number, "float32") for v in model.variables])

    write(0)
    written = [0]

    def read_tokenizer(path):
        """And after that, twice, the preset is replaced."""
        tokenizer = open_tokenizer(path)
        if len(written) < 3:
            written.append(len(written))
            write(written[-1])
        return tokenizer

    monkeypatch.setattr(opening, "open_tokenizer", read_tokenizer)
    opened, tokenizer = igpt_keras.open_weights(run)
    assert written == [0, 1, 2]
    assert tokenizer.fingerprint == palettes[2].fingerprint
    assert {x for a in opened.get_weights() for x in a.ravel()} == {2.0}
