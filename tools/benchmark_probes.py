"""Seconds of probing all layers at once, beside scikit-learn layer by layer.

    python tools/benchmark_probes.py --layers=25 --images=45000 --width=512

Both fit the same made-up features in turns in the same run: features of ten
classes, standardised, by L-BFGS. They are as much alike as those of a network
are: of `igpt_micro_cifar10`'s middle layer the largest eigenvalue of the
correlations is 2e5 times the least. The ratio is what to compare.
"""

import time

import numpy as np
from absl import app
from absl import flags
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CLASSES = 10
TEST_IMAGES = 1000


def define_flags():
    for name, default, text in (
        ("layers", 25, "Layers, of which each is probed."),
        ("images", 45_000, "Images that a probe is fitted on."),
        ("width", 512, "Features of a layer."),
        ("repeats", 1, "Measurements; the least is shown."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=1)


def make_features(layers, images, width):
    """Float32 `(layers, images, width)` and int labels, from a fixed seed."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, images)
    features = generator.standard_normal((layers, images, width), "float32")
    centres = generator.standard_normal((layers, CLASSES, width), "float32")
    deviations = np.geomspace(1, 2e5**-0.5, width, dtype="float32")
    for layer, centre in zip(features, centres):
        rotation, _ = np.linalg.qr(generator.standard_normal((width, width)))
        hidden = (layer + 0.12 * centre[labels]) * deviations
        layer[:] = hidden @ rotation.astype("float32")
    # Of unlike sizes, as features are.
    features /= features.std()
    features *= np.linspace(0.5, 2, width, dtype="float32")
    return features, labels


def probe_at_once(train, test):
    from igpt_keras.probes import fit_logistic_regression

    result = fit_logistic_regression(*train, *test, *test, regularization=1.0)
    return result.test_accuracy


def probe_in_turn(train, test):
    accuracies = []
    for layer, other in zip(train[0], test[0]):
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000)
        )
        probe.fit(layer, train[1])
        accuracies.append(probe.score(other, test[1]))
    return np.array(accuracies)


def main(argv):
    del argv
    args = flags.FLAGS
    # Not a part of what is measured.
    import igpt_keras.probes  # noqa: F401

    features, labels = make_features(
        args.layers, args.images + TEST_IMAGES, args.width
    )
    train = features[:, TEST_IMAGES:], labels[TEST_IMAGES:]
    test = features[:, :TEST_IMAGES], labels[:TEST_IMAGES]
    seconds = {probe_at_once: [], probe_in_turn: []}
    accuracies = {}
    for _ in range(args.repeats):
        for probe, times in seconds.items():
            start = time.perf_counter()
            accuracies[probe] = probe(train, test)
            times.append(time.perf_counter() - start)
    ours, theirs = (min(times) for times in seconds.values())
    one, other = accuracies.values()
    print(
        f"{args.layers} layers of {args.images:,} x {args.width} features\n"
        f"igpt_keras        {ours:8.2f} s\n"
        f"scikit-learn loop {theirs:8.2f} s\n"
        f"ratio             {ours / theirs:8.2f}\n"
        f"largest difference in accuracy {np.abs(one - other).max():.4f}"
    )


if __name__ == "__main__":
    define_flags()
    app.run(main)
