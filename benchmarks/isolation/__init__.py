"""What the walls between tenants cost."""
