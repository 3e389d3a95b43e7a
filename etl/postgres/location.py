"""Where a database is, for messages. Knows libpq's variables, and shows no secret."""

from __future__ import annotations

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict


def location_of(conninfo: str) -> str:
    """Host, port and name of the database that a connection string names, no password.

    What the string does not say, libpq takes from its variables and their service.
    """
    values = {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val
    }
    values |= {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    host, address = values.get("host"), values.get("hostaddr")
    host = f"{host} ({address})" if host and address else host or address
    if host is None:
        where = values.get("service")
        host = f"the service {where}" if where else "the local socket"
    name = values.get("dbname") or values.get("user")
    return f"the database {name} at {host}:{values.get('port')}"
