import sys

from igpt_keras.callbacks.linear_probe import LinearProbe
from igpt_keras.probes.hold_out import why_no_probe


def linear_probes(probe_sets, log_dir, every=1, layers=None, neighbors=None):
    """A `LinearProbe` for each dataset that can be probed.

    Says so, and of the others why they cannot.

    Args:
        probe_sets: list of `ProbeSets`.
        log_dir: directory for TensorBoard.
        every: int. Epochs between probes. Defaults to 1.
        layers: sequence of int. Defaults to all.
        neighbors: int. Nearest neighbours whose vote is scored too. Defaults to
            none.

    Returns:
        `(probe_sets, probes)`: those that can be, and as many callbacks, which
        score on validation.
    """
    found, probes = [], []
    for sets in probe_sets:
        obstacle = why_no_probe(sets.train.labels, sets.validation.labels)
        name = sets.train.split.name
        if obstacle:
            sys.stdout.write(f"Training without probes of {name}. {obstacle}\n")
            continue
        sys.stdout.write(
            f"Probing {name} with {len(sets.train.labels):,} training and "
            f"{len(sets.validation.labels):,} validation images.\n"
        )
        found.append(sets)
        probes.append(
            LinearProbe(
                sets.train.probe_inputs,
                sets.validation.probe_inputs,
                sets.name,
                log_dir,
                every,
                layers,
                neighbors=neighbors,
            )
        )
    return found, probes
