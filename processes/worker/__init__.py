"""A worker as a process: what it checks before it takes work, what it tells, and how it ends."""
