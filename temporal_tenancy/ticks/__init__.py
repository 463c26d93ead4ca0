"""Scheduled jobs that run for every tenant: schedules, fan-outs, the ledger, reconciling."""
