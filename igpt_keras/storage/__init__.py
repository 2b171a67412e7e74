"""Files: whole or not there at all, and read without trust."""
