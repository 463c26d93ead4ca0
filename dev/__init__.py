"""Everything to run it locally: servers, sample data, the demo."""
