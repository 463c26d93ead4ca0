"""Turning outbox messages into workflows."""
