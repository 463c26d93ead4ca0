"""The leak hunt: statements, a model that keeps tenants apart, and a machine to compare them."""
