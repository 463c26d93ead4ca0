"""Alerting rules and dashboards as code; `python -m dev.monitoring --write` writes their files."""
