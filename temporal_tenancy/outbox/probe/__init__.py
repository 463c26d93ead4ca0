"""A probe that goes the way of a job: from the outbox by the relay to a worker, and back.

It belongs to the platform and touches no tenant's row. Its message stands in the outbox under the
reserved owner `platform`, which no tenant can be.
"""
