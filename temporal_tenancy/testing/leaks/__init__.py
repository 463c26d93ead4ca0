"""The leak check over an application's own tables."""
