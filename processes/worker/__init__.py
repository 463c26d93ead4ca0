"""Worker and relay processes: startup checks, health, and orderly shutdown."""
