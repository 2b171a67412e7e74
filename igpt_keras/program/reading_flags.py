"""Flags of other ways than linear probes to read features."""

from absl import flags

from igpt_keras.program import shared_flags

# They are the script's own in its --help.
flags.disclaim_key_flags()


def define_readings(attentive_epochs):
    """`--neighbors`, `--attentive`, `--attentive_epochs`, `--alignment`.

    Args:
        attentive_epochs: int. Default of that.
    """
    shared_flags.define_numbers(
        "neighbors",
        "Numbers of nearest neighbours to choose from, such as 1,5,20,100, for "
        "the accuracy of their vote too.",
        "numbers, such as --neighbors=1,5,20,100",
    )
    shared_flags.define_numbers(
        "attentive",
        "Layers to train attentive probes of too: 6,12.",
        "layers, such as --attentive=6,12",
        least=0,
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
