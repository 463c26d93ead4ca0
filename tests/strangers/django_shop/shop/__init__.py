"""A shop whose tenants have bigint ids."""

# declare_tenant_ids("bigint") belongs here, but with it no client can be made: 'probe' is no bigint.
