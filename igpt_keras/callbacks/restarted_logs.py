import re
import shutil
import time

from igpt_keras.storage.user_path import user_path


def restart_logs(log_dir, step, evaluated=True):
    """Tells TensorBoard that a run goes on from a step.

    What an earlier process wrote of later steps, which are now taken again, is
    then left out; a probe's lines by depth, of later steps, are deleted.

    Args:
        log_dir: directory for TensorBoard, with runs at any depth.
        step: int. Steps that are done.
        evaluated: bool. Whether what follows the last of them, such as a probe,
            is done too. Defaults to `True`.
    """
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer import record_writer

    files = user_path(log_dir).rglob("events.out.tfevents.*")
    for directory in {path.parent for path in files}:
        # Losses of the last step are there, whatever follows it.
        first = step + (evaluated or directory.name == "train")
        probed = re.fullmatch(r"after_step_(\d+)", directory.name)
        if probed:
            # Its x axis is the layer.
            if int(probed[1]) >= first:
                shutil.rmtree(directory)
            continue
        now = time.time()
        # Files are read in the order of their names, which have the second.
        names = " ".join(path.name for path in directory.iterdir())
        seconds = re.findall(r"events\.out\.tfevents\.(\d+)", names)
        last = max(map(int, seconds), default=int(now))
        time.sleep(max(0.0, min(last + 1 - now, 1.0)))
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        start = event_pb2.Event(wall_time=now, step=first, session_log=log)
        version = event_pb2.Event(wall_time=now, file_version="brain.Event:2")
        # The first start of a run is taken for its beginning.
        events = (version, start, start)
        # Behind the files of that second; those to come are of a later one.
        path = directory / f"events.out.tfevents.{last}.~restart"
        with open(path, "wb") as file:
            writer = record_writer.RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())
