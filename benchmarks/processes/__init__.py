"""What the processes can bear: workers under load, the HTTP door under connections."""
