import hashlib

import pytest
import tiny

import igpt_keras


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def saved(tmp_path):
    """The same weights in each format, by name."""
    model = tiny.model()
    tiny.save_preset(tmp_path / "run" / "preset")
    igpt_keras.save_huggingface(
        model, tmp_path / "hf", palette=tiny.grey_palette().palette
    )
    pytest.importorskip("tensorflow")
    igpt_keras.save_openai_checkpoint(model, tmp_path / "oa" / "model.ckpt-1")
    return {
        "keras": tmp_path / "run",
        "huggingface": tmp_path / "hf",
        "openai": tmp_path / "oa" / "model.ckpt-1",
    }


def test_opens_every_format_and_says_what_it_is(saved):
    x = tiny.token_ids()
    expected = tiny.array(tiny.model()(x))
    assert igpt_keras.open_starting_weights(None) is None
    for kind, path in saved.items():
        start = igpt_keras.open_starting_weights(f"{kind}:{path}")
        assert start.source == f"{kind}:{path}"
        assert abs(tiny.array(start.model(x)) - expected).max() < 1e-4
        # By digest alone, where the run goes on.
        again = igpt_keras.open_starting_weights(start.source, goes_on=True)
        assert again.sha256 == start.sha256 and again.model is None
        files = [p for p in path.parent.glob(f"{path.name}*") if p.is_file()]
        if kind == "keras":
            weights = path / "preset" / "model.safetensors"
            assert start.sha256 == digest(weights)
            other = tiny.model(scale=0.2)
            other.save_to_preset(path / "preset", tiny.grey_palette())
        elif kind == "huggingface":
            assert start.sha256 == digest(path / "model.safetensors")
            (path / "model.safetensors").write_bytes(b"other")
        else:
            assert len(files) == 2
            shard = next(p for p in files if ".data-" in p.name)
            shard.write_bytes(shard.read_bytes()[:-1] + b"x")
        other = igpt_keras.open_starting_weights(start.source, goes_on=True)
        assert other.sha256 not in (None, start.sha256)


def test_weights_that_are_gone(tmp_path):
    path = f"keras:{tmp_path / 'nowhere'}"
    assert igpt_keras.open_starting_weights(path, goes_on=True).sha256 is None
    with pytest.raises(ValueError, match="No model at"):
        igpt_keras.open_starting_weights(path)


def test_the_tokenizer_is_the_weights(saved):
    start = igpt_keras.open_starting_weights(str(saved["keras"]))
    same = tiny.grey_palette()
    assert start.own_tokenizer(None).fingerprint == same.fingerprint
    assert start.own_tokenizer(same) is same
    other = igpt_keras.PaletteTokenizer(same.palette[::-1].copy())
    with pytest.raises(ValueError, match="are of another tokenizer"):
        start.own_tokenizer(other)
    start = igpt_keras.open_starting_weights(str(saved["openai"]))
    assert start.own_tokenizer(same) is same
    with pytest.raises(ValueError, match="no tokenizer with it"):
        start.own_tokenizer(None)
    with pytest.raises(ValueError, match="5 tokens and the model a vocab"):
        start.own_tokenizer(tiny.grey_palette(5))
