"""What a laptop needs to run everything: servers, sample data, the demo."""
