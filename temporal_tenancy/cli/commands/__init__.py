"""The commands and their arguments; each module holds one group."""
