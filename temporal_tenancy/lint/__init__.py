"""The lint of a database: what it lets a tenant do that it should not."""
