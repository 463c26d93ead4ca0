"""The reference SaaS's processes, and their shared code."""
