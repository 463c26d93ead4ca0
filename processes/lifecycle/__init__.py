"""A process's startup checks, and its errors as sentences and exit codes."""
