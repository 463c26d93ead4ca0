"""A small WSGI application: POST /orders with the header X-Customer; GET lists them."""

import json

import psycopg
from psycopg_pool import ConnectionPool

from shop import jobs, settings  # noqa: F401
from temporal_tenancy import TenantScope, current_tenant, enter, tenant_transaction
from temporal_tenancy.outbox import enqueue_in

POOL = ConnectionPool(settings.APP_URL, open=True, min_size=1)


def place_order(item, *, oops=False):
    """Stores an order of the current customer, and asks for its confirmation."""
    with (
        POOL.connection() as connection,
        tenant_transaction(connection, schema=settings.INSTALLATION.schema),
    ):
        ((order,),) = connection.execute(
            "insert into orders (tenant_id, item) values (%s, %s) returning id",
            [current_tenant(), item],
        )
        enqueue_in(connection, jobs.ConfirmOrder, {"order_id": order}, key=f"order-{order}")
        if oops:
            raise psycopg.Rollback
    return order


def orders():
    with POOL.connection() as connection, tenant_transaction(connection):
        return connection.execute("select id, item from orders order by id").fetchall()


def app(environ, start_response):
    with enter(TenantScope(environ["HTTP_X_CUSTOMER"])):
        if environ["REQUEST_METHOD"] == "POST":
            item, _, oops = environ["QUERY_STRING"].partition("&")
            answer = place_order(item, oops=bool(oops))
        else:
            answer = orders()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
