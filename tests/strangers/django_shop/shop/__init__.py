"""A shop whose tenants have bigint ids."""

from temporal_tenancy import declare_tenant_ids

declare_tenant_ids("bigint")
