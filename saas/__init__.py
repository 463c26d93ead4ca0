"""What the reference SaaS is made of: its tables and its services."""
