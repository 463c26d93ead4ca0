"""Limits each tenant to its own rows, and puts the tenant into the keys."""

from django.db import migrations

from temporal_tenancy.postgres import protect_sql

KEYS = """
    alter table shop_order drop constraint shop_order_pkey, add primary key (tenant_id, id);
    alter table shop_payment drop constraint shop_payment_pkey, add primary key (tenant_id, id),
        add foreign key (tenant_id, order_id) references shop_order (tenant_id, id)
        deferrable initially deferred;
"""


class Migration(migrations.Migration):
    """Keys, and row-level security."""

    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RunSQL(KEYS, migrations.RunSQL.noop),
        migrations.RunSQL(protect_sql("shop_order", type="bigint"), migrations.RunSQL.noop),
        migrations.RunSQL(protect_sql("shop_payment", type="bigint"), migrations.RunSQL.noop),
    ]
