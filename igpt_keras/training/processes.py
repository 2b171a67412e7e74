import os

import keras


def join_processes(
    job_addresses=None, num_processes=None, process_id=None, seed=0
):
    """Joins this host with the others of a run on JAX, before all else.

    What is not given is read from `KERAS_DISTRIBUTION_JOB_ADDRESSES`,
    `KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`.
    Without any of them there is one host.

    Args:
        job_addresses: str. `HOST:PORT` of the first host, or of all with commas
            between. Defaults to `None`.
        num_processes: int. Hosts in all. Defaults to `None`.
        process_id: int. Number of this one, from 0. Defaults to `None`.
        seed: int. Of Keras, the same on all. Defaults to 0.

    Raises:
        ValueError: if they do not fit together, or the hosts did not find each
            other.
    """
    given = {
        "job_addresses": job_addresses,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    for name, value in given.items():
        if value is None:
            variable = f"KERAS_DISTRIBUTION_{name.upper()}"
            given[name] = os.environ.get(variable) or None
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return
    if missing:
        raise ValueError(
            f"--{missing[0]} is missing: several hosts need --job_addresses, "
            "--num_processes and --process_id, or Keras's variables of the "
            "same names."
        )
    count, number = int(given["num_processes"]), int(given["process_id"])
    if not 0 <= number < count:
        raise ValueError(
            f"process_id={number} must be from 0 to num_processes - 1 = "
            f"{count - 1}."
        )
    # Keras would ask all hosts for one.
    keras.utils.set_random_seed(seed)
    try:
        keras.distribution.initialize(given["job_addresses"], count, number)
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        raise ValueError(
            f"The {count} hosts of {given['job_addresses']} did not find each "
            f"other ({first}). Look whether all run, each with its own "
            "process_id, and whether the first one's address is free."
        ) from error


def read_processes():
    """How many processes `join_processes` joined, and whether this is first."""
    if keras.backend.backend() != "jax":
        return 1, True
    import jax

    if not jax.distributed.is_initialized():
        return 1, True
    return jax.process_count(), jax.process_index() == 0


def share_of_data():
    """This process's share of every batch, an `input_context` of data.

    Processes that hold parts of the same copy of the model have the same.
    """
    import jax
    import tensorflow as tf

    copies = keras.distribution.distribution().num_model_replicas
    processes = jax.process_count()
    shares = min(copies, processes)
    return tf.distribute.InputContext(
        num_input_pipelines=shares,
        input_pipeline_id=jax.process_index() * shares // processes,
        num_replicas_in_sync=shares,
    )


def any_process(flag):
    """Whether a bool is true in any process; all ask together."""
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(flag).any())


def leave_processes():
    """Lets every process go its own way, or end; all leave together.

    One that ended otherwise would wait five minutes for the others, and then
    fail, while the first evaluates.
    """
    import jax

    jax.distributed.shutdown()
