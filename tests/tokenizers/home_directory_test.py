"""`~` in every path that a tokenizer is given."""

import numpy as np
from tiny import array

import igpt_keras
from igpt_keras.tokenizers.open_tokenizer import open_tokenizer


def test_palettes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tokenizer = igpt_keras.PaletteTokenizer([[0.0, 0, 0], [1, 1, 1]])
    tokenizer.save_palette("~/colours.npy")
    (tmp_path / "preset").mkdir()
    tokenizer.save_to_preset("~/preset")
    for opened in (
        igpt_keras.PaletteTokenizer("~/colours.npy"),
        igpt_keras.PaletteTokenizer.from_preset("~/preset"),
        open_tokenizer("~/preset"),
    ):
        np.testing.assert_array_equal(opened.palette, tokenizer.palette)
    assert not (tmp_path / "~").exists()


def test_vq_vaes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    vq_vae = igpt_keras.VQVAE(8, 4, 16)
    vq_vae.save_to_preset("~/vq_vae")
    (tmp_path / "preset").mkdir()
    igpt_keras.VQVAETokenizer(vq_vae).save_to_preset("~/preset")
    images = np.zeros((1, 8, 8, 3), "uint8")
    for opened in (
        igpt_keras.VQVAE.from_preset("~/vq_vae"),
        igpt_keras.VQVAETokenizer.from_preset("~/preset").vq_vae,
        open_tokenizer("~/preset").vq_vae,
    ):
        np.testing.assert_array_equal(
            array(opened.encode(images)), array(vq_vae.encode(images))
        )
    assert not (tmp_path / "~").exists()
