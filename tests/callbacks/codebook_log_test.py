import events
import keras
import numpy as np
import pytest

import igpt_keras

pytest.importorskip("tensorflow")


@pytest.mark.parametrize("revives", [True, False])
def test_in_anybodys_fit(revives, tmp_path):
    quantizer = None
    if not revives:
        quantizer = igpt_keras.layers.FiniteScalarQuantizer((4, 4))
    vq_vae = igpt_keras.VQVAE(8, 4, 16, quantizer)
    vq_vae.compile(keras.optimizers.Adam(1e-3))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (32, 8, 8, 3)).astype("uint8")
    log = igpt_keras.CodebookLog(tmp_path, images)
    vq_vae.fit(images, batch_size=16, epochs=2, callbacks=[log], verbose=0)
    found = events.read(tmp_path / "codebook")
    assert [s for s, _ in found["originals_and_reconstructions"]] == [2, 4]
    assert [s for s, _ in found["code_usage"]] == [2, 4]
    # Buckets are (left, right, count): each code of each image is in one.
    for _, buckets in found["code_usage"]:
        assert buckets[:, 2].sum() == 16
    assert ("revived_codes" in found) == revives
    if revives:
        total = sum(value for _, value in found["revived_codes"])
        assert total == float(np.asarray(vq_vae.quantizer.revived))
