"""Scopes, inputs, jobs and due times; this package does no I/O and sends no SQL."""
