"""Stores of many tenants: what migrating them costs."""
