"""A shop with many customers."""
