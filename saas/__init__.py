"""The reference SaaS's tables and services."""
