"""An aiohttp handler that returns a constant: the text in the environment's ``BODY``.

What the service cannot be quicker than, on the same machine.
"""

from __future__ import annotations

import os
import socket

from aiohttp import web


def main() -> None:
    """Serve on a free port of the loopback until SIGTERM; print where."""
    body = os.environ["BODY"]

    async def constant(request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/", constant)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        web.run_app(
            app,
            sock=listener,
            access_log=None,
            print=lambda _: print(f"http://127.0.0.1:{port}/", flush=True),
        )


if __name__ == "__main__":
    main()
