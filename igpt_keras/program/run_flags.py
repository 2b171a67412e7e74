"""Flags of what a training run goes on, and how it is kept."""

from absl import flags

# They are the script's own in its --help.
flags.disclaim_key_flags()


def define_devices():
    """`--strategy`, `--tpu`, `--micro_batches`, `--steps_per_call`."""
    flags.DEFINE_enum(
        "strategy",
        "auto",
        ["auto", "none", "mirrored"],
        "auto: all workers of TF_CONFIG, else one replica on each GPU of this "
        "machine, else one device. none: one device. mirrored: each GPU.",
    )
    flags.DEFINE_string(
        "tpu", None, "A TPU: local, its name, or grpc://ADDRESS:PORT."
    )
    flags.DEFINE_integer(
        "micro_batches",
        1,
        "Parts of a batch that are computed one after the other, to need the "
        "memory of one.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "steps_per_call",
        1,
        "Steps that the device takes before the program looks again.",
        lower_bound=1,
    )


def define_init():
    """`--init`, `--interpolate_positions`; without the first needs a preset."""
    flags.DEFINE_string(
        "init",
        None,
        "Weights to start from in place of fresh ones, with their tokenizer "
        "and a new optimizer: what --model takes elsewhere.",
    )
    define_interpolate_positions("--init")
    flags.register_multi_flags_validator(
        ["preset", "init"],
        lambda values: any(value is not None for value in values.values()),
        message="Flag --preset must have a value other than None, or --init.",
    )
    flags.register_multi_flags_validator(
        ["interpolate_positions", "init"],
        lambda values: (
            not values["interpolate_positions"] or values["init"] is not None
        ),
        message="--interpolate_positions is of the weights of --init. Leave it "
        "out.",
    )


def define_interpolate_positions(weights):
    """`--interpolate_positions` of the weights of another flag, a str."""
    flags.DEFINE_bool(
        "interpolate_positions",
        False,
        f"Resize the positions of {weights} to another --input_resolution.",
    )


def define_checkpoints():
    """`--checkpoint_minutes`, `--checkpoint_steps`, `--log_every`, ..."""
    flags.DEFINE_float(
        "checkpoint_minutes",
        10.0,
        "Minutes between checkpoints, at most.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "checkpoint_steps",
        None,
        "Steps between checkpoints, at most.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "log_every",
        100,
        "Steps between training losses in TensorBoard.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "allow_config_change",
        [],
        "Settings that may differ from those the run was begun with, such as "
        "steps,learning_rate. The change is recorded.",
    )


def define_dry_run():
    """`--dry_run`, `--device_memory`, `--num_devices`."""
    flags.DEFINE_bool(
        "dry_run", False, "Print settings, size and cost, and train nothing."
    )
    flags.DEFINE_float(
        "device_memory",
        None,
        "GB (1e9 bytes) of memory of a device: says whether training fits, and "
        "what would make it fit.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "num_devices",
        None,
        "Devices that the memory is estimated for. Defaults to those that the "
        "run would train on.",
        lower_bound=1,
    )
