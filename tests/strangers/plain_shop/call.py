"""Calls the WSGI application: python call.py CUSTOMER [ITEM]."""
import sys
from shop.web import POOL, app
print(b"".join(app({"HTTP_X_CUSTOMER": sys.argv[1], "REQUEST_METHOD": "POST" if sys.argv[2:] else "GET", "QUERY_STRING": (sys.argv+[""])[2]}, lambda *a: None)).decode())
POOL.close()
