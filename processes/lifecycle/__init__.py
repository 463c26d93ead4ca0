"""How a process starts, says that it is ready, is looked after, and ends."""
