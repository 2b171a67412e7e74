"""Files that are whole or not there at all, and weights in them."""
