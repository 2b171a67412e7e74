from igpt_keras.callbacks.codebook_log import CodebookLog
from igpt_keras.callbacks.curve_log import CurveLog
from igpt_keras.callbacks.linear_probe import LinearProbe
from igpt_keras.callbacks.picture_log import PictureLog
from igpt_keras.callbacks.progress import Progress
from igpt_keras.callbacks.training_checkpoint import TrainingCheckpoint
