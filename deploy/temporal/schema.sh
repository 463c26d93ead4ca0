#!/bin/sh
# Makes or updates the schemas of Temporal's two databases, with the tool and the files of the
# server's release. Safe to repeat. SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_PLUGIN say
# where.
set -eu
# Without a port the tool asks MySQL's, whatever its plugin.
export SQL_PORT="${SQL_PORT:-5432}"
: "${SCHEMA_FOLDER:=/etc/temporal/schema/postgresql/v12}"

update() {
    temporal-sql-tool --db "$1" setup-schema --version 0.0
    temporal-sql-tool --db "$1" update-schema --schema-dir "$SCHEMA_FOLDER/$2/versioned"
}

update temporal temporal
update temporal_visibility visibility
