"""The reference SaaS's processes, and what they share."""
