"""The library's own central tables: tenants, plans, ticks and the ledger."""
