"""How fast jobs go through the outbox, by procrastinate among others."""
