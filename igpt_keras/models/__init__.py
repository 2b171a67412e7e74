from igpt_keras.models.igpt import IGPT
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.models.sampling import sample
