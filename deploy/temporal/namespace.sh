#!/bin/sh
# Makes the namespace and the search attributes that workers need. Safe to repeat. TEMPORAL_ADDRESS
# and TEMPORAL_NAMESPACE say where, and NAMESPACE_RETENTION how long closed runs are kept.
set -eu

temporal operator namespace describe >/dev/null 2>&1 ||
    temporal operator namespace create --retention "${NAMESPACE_RETENTION:-7d}"
temporal operator search-attribute create --name TenantId --type Keyword --name Job --type Keyword
