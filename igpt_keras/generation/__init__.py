"""Pictures that a model draws: pictures in, pictures out."""

from igpt_keras.generation.complete import complete
from igpt_keras.generation.fill_pictures import fill_pictures
from igpt_keras.generation.given_tokens import given_tokens
from igpt_keras.generation.open_draft import open_draft
from igpt_keras.generation.picture_resolution import picture_resolution
