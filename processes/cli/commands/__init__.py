"""The reference SaaS's own commands, a group in each module: arguments, and what is called."""
