"""Tenancy on Temporal's SDK: the checks that every start, task and message passes through."""
