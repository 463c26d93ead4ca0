"""How fast a fan-out is, and what holds it up."""
