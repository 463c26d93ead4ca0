"""Clients of outside systems that activities use: mail, object storage, outgoing HTTP."""
