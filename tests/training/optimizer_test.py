import numpy as np
import tiny

from igpt_keras import training


def test_learning_rate_warms_up_and_decays_to_zero():
    optimizer = training.paper_adam(0.5, 110, warmup_steps=10)
    rates = [
        float(optimizer._learning_rate(step)) for step in (0, 5, 10, 60, 110)
    ]
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.25, 0], atol=1e-6)
    config = optimizer.get_config()
    assert (config["beta_1"], config["beta_2"]) == (0.9, 0.95)
    assert config["epsilon"] == 1e-8
    assert not config["weight_decay"] and not config["use_ema"]
    for clip in ("clipnorm", "clipvalue", "global_clipnorm"):
        assert config[clip] is None


def test_without_warm_up_it_starts_at_the_peak():
    optimizer = training.paper_adam(0.5, 100, beta_1=0.8, beta_2=0.7)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 50, 100)]
    np.testing.assert_allclose(rates, [0.5, 0.25, 0], atol=1e-6)
    config = optimizer.get_config()
    assert (config["beta_1"], config["beta_2"]) == (0.8, 0.7)


def test_without_steps_there_is_no_schedule():
    optimizer = training.paper_adam(0.5)
    assert float(optimizer.learning_rate) == 0.5


def test_weight_decay_is_decoupled_and_spares_gains():
    """One step of Adam, and the decay beside it."""
    found = {}
    for decay in (0.0, 0.1):
        model = tiny.model()
        before = [tiny.array(v) for v in model.trainable_variables]
        model.compile(training.paper_adam(0.01, weight_decay=decay))
        model.fit(tiny.token_ids(), tiny.token_ids(), verbose=0)
        found[decay] = [tiny.array(v) for v in model.trainable_variables]
    names = [v.name for v in model.trainable_variables]
    assert set(names) > {"scale", "kernel", "token_embedding"}
    for name, start, plain, decayed in zip(
        names, before, found[0.0], found[0.1], strict=True
    ):
        share = 0 if name == "scale" else 0.01 * 0.1
        np.testing.assert_allclose(
            plain - decayed, share * start, atol=1e-6, err_msg=name
        )
