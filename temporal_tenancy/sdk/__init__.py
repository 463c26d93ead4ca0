"""Tenancy in Temporal's SDK: what every start, task and message passes through."""
