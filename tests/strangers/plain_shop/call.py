"""Calls the application as a server does: python call.py CUSTOMER [ITEM [oops]]."""

import sys

from shop.web import POOL, app

customer, *order = sys.argv[1:]
environ = {
    "HTTP_X_CUSTOMER": customer,
    "REQUEST_METHOD": "POST" if order else "GET",
    "QUERY_STRING": "&".join(order),
}
print(b"".join(app(environ, lambda *answer: None)).decode())
POOL.close()
