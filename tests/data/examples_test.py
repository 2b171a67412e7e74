import numpy as np
import pytest
import tiny

pytest.importorskip("tensorflow")

from igpt_keras.data import load_examples  # noqa: E402
from igpt_keras.data import open_split  # noqa: E402
from igpt_keras.data import write_token_cache  # noqa: E402


@pytest.mark.parametrize("kind", ["tokens", "npy"])
def test_tokens_are_no_images(kind, tmp_path):
    name = f"{kind}:{tmp_path / 'x'}"
    if kind == "tokens":
        split, tokenizer = open_split("digits", "test", 4), tiny.grey_palette()
        splits = {part: split.first(3) for part in ("train", "test")}
        list(write_token_cache(tmp_path / "x", splits, tokenizer))
    else:
        for part in ("tr", "va", "te"):
            np.save(tmp_path / f"x_{part}X.npy", np.zeros((3, 16), "int64"))
    assert open_split(name, "test", 4).is_tokens
    with pytest.raises(ValueError, match="holds tokens already, and images"):
        load_examples(name, "test", 4)
