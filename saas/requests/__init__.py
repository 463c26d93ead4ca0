"""What tenants ask for: exports, reports, integrations and lists, for every door alike."""
