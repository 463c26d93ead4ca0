"""The library's central tables: tenants, plans, ticks, the ledger, admission and API keys."""
