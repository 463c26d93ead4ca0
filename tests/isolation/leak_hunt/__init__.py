"""The leak hunt: statements, a model that keeps tenants apart, and the machine that compares."""
