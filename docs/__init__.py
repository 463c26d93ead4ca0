"""The documentation, and what takes the pictures in it."""
