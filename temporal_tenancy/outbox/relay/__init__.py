"""The relay, which turns outbox messages into workflows."""
