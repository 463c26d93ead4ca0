"""The commands, a group in each module: their arguments, and what is called for them."""
