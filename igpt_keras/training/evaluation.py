from igpt_keras.backend import has_workers
from igpt_keras.backend import num_replicas
from igpt_keras.program import interrupts


class Evaluation:
    """`model.evaluate` on the same batches again and again.

    Under `tf.distribute` the replicas' iterator is made once, and goes round:
    Keras makes and drops one each time, which once in some hundred times ends
    in a crash.

    Args:
        model: compiled Keras model.
        batches: `tf.data.Dataset` of batches, once in order; or `None`.
    """

    def __init__(self, model, batches):
        self.model = model
        self.batches = batches
        self._step = None
        if batches is None or num_replicas(model) == 1:
            return
        import tensorflow as tf

        strategy = model.distribute_strategy
        if has_workers(model):
            # Each reads all, and takes its part of every batch.
            options = tf.data.Options()
            policy = tf.data.experimental.AutoShardPolicy.DATA
            options.experimental_distribute.auto_shard_policy = policy
            batches = batches.with_options(options)
        self.count = int(batches.cardinality())
        if self.count < 0:
            self.count = sum(1 for _ in batches)
        self.batches = iter(
            strategy.experimental_distribute_dataset(batches.repeat())
        )
        self._step = tf.function(
            lambda batch: strategy.run(model.test_step, args=(batch,)),
            reduce_retracing=True,
        )

    def __call__(self):
        """dict of float: the metrics, each name with `val_` before it."""
        if self.batches is None:
            return {}
        model = self.model
        if self._step is None:
            logs = model.evaluate(self.batches, return_dict=True, verbose=0)
        else:
            model.reset_metrics()
            for _ in range(self.count):
                self._step(next(self.batches))
                interrupts.check()
            logs = model.get_metrics_result()
        return {f"val_{name}": float(value) for name, value in logs.items()}
