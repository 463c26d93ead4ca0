"""The command line of starter.py: the library's commands, and what is the reference SaaS's own."""
