"""The reference SaaS's tenant-owned tables."""
