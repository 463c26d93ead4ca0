"""Worker and relay processes: their options, checks and connections."""
