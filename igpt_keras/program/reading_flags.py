"""Flags of other ways than linear probes to read features."""

from absl import flags

# They are the script's own in its --help.
flags.disclaim_key_flags()


def define_readings(attentive_epochs):
    """`--neighbors`, `--attentive`, `--attentive_epochs`, `--alignment`.

    Args:
        attentive_epochs: int. Default of that.
    """
    flags.DEFINE_list(
        "neighbors",
        [],
        "Numbers of nearest neighbours to choose from, such as 1,5,20,100, for "
        "the accuracy of their vote too.",
    )
    flags.register_validator(
        "neighbors",
        lambda numbers: all(n.isdecimal() and int(n) for n in numbers),
        message="expected numbers, such as --neighbors=1,5,20,100",
    )
    flags.DEFINE_list(
        "attentive", [], "Layers to train attentive probes of too: 6,12."
    )
    flags.register_validator(
        "attentive",
        lambda layers: all(layer.isdecimal() for layer in layers),
        message="expected layers, such as --attentive=6,12",
    )
    flags.DEFINE_integer(
        "attentive_epochs",
        attentive_epochs,
        "Epochs that attentive probes are trained for.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "alignment",
        False,
        "How alike the layers are on validation images: centred kernel "
        "alignment of each pair.",
    )
