"""Databases of earlier releases, and the statements that those releases send."""
