"""Jobs that run for every tenant when a schedule says so."""
