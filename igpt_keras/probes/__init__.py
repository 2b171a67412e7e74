from igpt_keras.probes.concatenation import concatenate_layers
from igpt_keras.probes.features import extract_features
from igpt_keras.probes.hold_out import hold_out
from igpt_keras.probes.hold_out import why_no_probe
from igpt_keras.probes.logistic_regression import fit_logistic_regression
from igpt_keras.probes.low_data import low_data_accuracy
from igpt_keras.probes.probe_layers import probe_layers
