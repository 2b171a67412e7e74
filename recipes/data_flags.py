"""Flags of every script that reads images."""

from absl import flags

flags.DEFINE_string(
    "data_dir", None, "Directory of prepared TFDS datasets. Defaults to TFDS's."
)
flags.DEFINE_bool(
    "skip_bad_images",
    False,
    "Leave out, count and list pictures of a folder that cannot be used.",
)
