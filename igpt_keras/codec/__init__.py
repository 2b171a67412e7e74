"""Token ids as files that are as long as the model's loss."""

from igpt_keras.codec.exact_network import check_codable
from igpt_keras.codec.other_sizes import least_sizes
from igpt_keras.codec.other_sizes import other_sizes
from igpt_keras.codec.token_file import HEADER_BYTES
from igpt_keras.codec.token_file import check_file
from igpt_keras.codec.token_file import compress
from igpt_keras.codec.token_file import decompress
