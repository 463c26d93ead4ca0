"""Databases of earlier releases, and what those releases send to them."""
