import contextlib
import json
import os
import socket
import sys

import keras

from igpt_keras.program import interrupts
from igpt_keras.training.processes import read_processes
from igpt_keras.training.sharding import check_batch
from igpt_keras.training.sharding import mesh_distribution

# Seconds in which a TPU must answer.
_TIMEOUT = 5.0
_INSTALL = "pip install -r requirements-tpu.txt && pip install --no-deps -e ."


class Devices:
    """What a run trains on. Make it before anything else is done.

    Args:
        strategy: `"auto"`: all workers that `TF_CONFIG` names, or else all GPUs
            of this machine, or else one device. `"none"`: one device.
            `"mirrored"`: all GPUs of this machine. Defaults to `"auto"`.
        tpu: str, `"local"`, a name or `grpc://ADDRESS:PORT`: a TPU in place of
            these. Defaults to `None`.
        data_parallel: int. On JAX, see `device_mesh`. Defaults to `None`.
        model_parallel: int. There, all devices as a mesh in place of these.
            Defaults to `None`: one device.

    Attributes:
        strategy: the `tf.distribute` strategy, or `None`.
        distribution: the `keras.distribution`, or `None`.
        num_workers: int. Processes that train together.
        is_chief: bool. Whether this one of them writes.

    Raises:
        ValueError: if the backend has no such strategy, or there is no such
            TPU.
    """

    def __init__(
        self,
        strategy="auto",
        tpu=None,
        data_parallel=None,
        model_parallel=None,
    ):
        self.strategy = self.distribution = None
        self.num_workers, self.is_chief = read_workers()
        if not self.is_chief:
            # What is said, one of all says.
            sys.stdout = open(os.devnull, "w")
        if data_parallel or model_parallel:
            self.distribution = mesh_distribution(
                data_parallel, model_parallel or 1
            )
            return
        if tpu is not None:
            _need_tensorflow("--tpu")
            self.strategy = _tpu_strategy(tpu)
            return
        if self.num_workers > 1:
            if strategy != "auto":
                raise ValueError(
                    f"TF_CONFIG names {self.num_workers} workers, and each "
                    f"would train a run of its own with --strategy={strategy}. "
                    "Leave it out to train one run on all, or unset TF_CONFIG."
                )
            _need_tensorflow("TF_CONFIG")
            self.strategy = _worker_strategy()
            return
        if strategy == "none" or (
            strategy == "auto" and keras.backend.backend() != "tensorflow"
        ):
            return
        _need_tensorflow(f"--strategy={strategy}")
        import tensorflow as tf

        gpus = len(tf.config.list_logical_devices("GPU"))
        if strategy == "mirrored" and not gpus:
            sys.stdout.write(
                "--strategy=mirrored finds no GPU: one CPU trains.\n"
            )
        if strategy == "mirrored" or gpus > 1:
            self.strategy = tf.distribute.MirroredStrategy()

    @property
    def num_replicas(self):
        """int. Copies of the model."""
        if self.distribution is not None:
            return self.distribution.num_model_replicas
        if self.strategy is None:
            return 1
        return self.strategy.num_replicas_in_sync

    def check_alone(self, what):
        """Refuses several workers, of which one goes on after training.

        Args:
            what: str, what this process is to do, such as "Probes by SGD".

        Raises:
            ValueError: if other processes train with this one.
        """
        if self.num_workers > 1:
            raise ValueError(
                f"{what} train on one machine, and TF_CONFIG names "
                f"{self.num_workers} workers. Unset it."
            )

    def scope(self, batch_size, micro_batches=1):
        """Where a model is built, and what belongs to it.

        A distribution stays in force after it, for all that the model is
        called on.

        Args:
            batch_size: int. Images in a batch, over all replicas.
            micro_batches: int. Parts of each replica's share of it. Defaults to
                1.

        Returns:
            A context manager.

        Raises:
            ValueError: if a batch does not divide among them.
        """
        check_batch(batch_size, self.num_replicas, micro_batches)
        if self.distribution is not None:
            keras.distribution.set_distribution(self.distribution)
        if self.strategy is None:
            return contextlib.nullcontext()
        return self.strategy.scope()


def _need_tensorflow(flag):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{flag} is tf.distribute and needs the TensorFlow backend, this "
            f"is {keras.backend.backend()}. On JAX several devices train with "
            "recipes/pretrain_jax.py."
        )


def read_workers():
    """How many processes train together, and whether this one is the chief.

    Those of `TF_CONFIG`, or of `join_processes`.
    """
    if keras.backend.backend() == "jax":
        return read_processes()
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        cluster = config["cluster"]
        workers = sum(len(addresses) for addresses in cluster.values())
        task = config.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (KeyError, TypeError, AttributeError, ValueError):
        # No cluster, or nothing that TensorFlow would understand.
        return 1, True
    if workers <= 1:
        return 1, True
    chief = kind == "chief" or ("chief" not in cluster and index == 0)
    return workers, chief


def _worker_strategy():
    import tensorflow as tf

    # It says every collective operation that it makes.
    tf.get_logger().setLevel("WARNING")
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(
            f"The workers of TF_CONFIG did not find each other ({first}). Look "
            "whether all run, each with the same addresses and its own index, "
            "and whether another program listens at this one's."
        ) from error
    # It takes SIGTERM for a notice of preemption of its own.
    interrupts.listen()
    return strategy


def _tpu_strategy(tpu):
    """`TPUStrategy` of a TPU; all that goes wrong is a `ValueError`."""
    import tensorflow as tf

    if tpu.startswith("grpc://"):
        _knock(tpu)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        if tpu not in ("", "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except tf.errors.NotFoundError as error:
        raise ValueError(
            "This TensorFlow has no TPU support, or this machine has no TPU: "
            f"--tpu={tpu} needs a TPU VM and {_INSTALL}"
        ) from error
    except (tf.errors.OpError, ValueError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"--tpu={tpu} names no TPU that can be reached ({first}). Pass "
            "local on a TPU VM, the TPU's name on a machine of Google Cloud, "
            "or grpc://ADDRESS:8470."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _knock(address):
    """Raises a `ValueError` unless something listens there."""
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT):
            pass
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Nothing answers at --tpu={address} ({error}). Look whether the "
            "TPU is running, and at its address: grpc://ADDRESS:8470."
        ) from error
