"""The catalogue lint: finds settings of a database that weaken the isolation of tenants."""
