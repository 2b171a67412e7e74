from igpt_keras.layers.dropout import Dropout
from igpt_keras.layers.finite_scalar_quantizer import FiniteScalarQuantizer
from igpt_keras.layers.pixel_order import pixel_order
from igpt_keras.layers.self_attention import SelfAttention
from igpt_keras.layers.tied_head import TiedHead
from igpt_keras.layers.token_and_position_embedding import (
    TokenAndPositionEmbedding,
)
from igpt_keras.layers.transformer_block import TransformerBlock
from igpt_keras.layers.vector_quantizer import VectorQuantizer
