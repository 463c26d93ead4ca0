"""How long a small tenant waits for a large one."""
