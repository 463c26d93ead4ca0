"""Jobs that have failed for good, and starting them again in their own tenant."""
