"""Tests of stores: their preparation, placement and lookup."""
