"""Whose job it is, what it is given, and when it is due: no input or output, no SQL."""
