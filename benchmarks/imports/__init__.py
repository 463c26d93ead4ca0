"""How fast an import of contacts is, and what memory it takes."""
