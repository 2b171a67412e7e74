"""Where images and tokens come from: random access to the examples of each."""
