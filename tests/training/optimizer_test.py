import numpy as np

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
