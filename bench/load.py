"""Requests a second: by wrk where there is one, else by plain sockets in processes.

``load.py HOST PORT PATH SECONDS CONNECTIONS [HEADER…]`` prints what one process got.
Knows HTTP/1.1, and that every answer to the same request is as long as the first.
"""

from __future__ import annotations

import re
import selectors
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECTIONS = 16

#: Processes of our own client: one would be the bottleneck for a bare handler.
PROCESSES = 2

READ = 1 << 18


def client() -> str:
    """Who makes the load, for the table."""
    return "wrk" if shutil.which("wrk") else f"plain sockets, {PROCESSES} processes"


def rate(url: str, seconds: float, headers: dict[str, str] | None = None) -> float:
    """Answers a second over ``CONNECTIONS`` connections. Raises on any but 2xx, 3xx."""
    lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
    wrk = shutil.which("wrk")
    if wrk:
        command = [wrk, "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds:.0f}s"]
        for line in lines:
            command += ["-H", line]
        said = subprocess.run(
            [*command, url], check=True, capture_output=True, text=True
        )
        if "Non-2xx" in said.stdout or "Socket errors" in said.stdout:
            raise RuntimeError(f"wrk met errors: {said.stdout}")
        return float(re.findall(r"Requests/sec:\s+([\d.]+)", said.stdout)[0])
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    share = str(CONNECTIONS // PROCESSES)
    arguments = [str(parts.hostname), str(parts.port), path, str(seconds), share]
    clients = [
        subprocess.Popen(
            [sys.executable, __file__, *arguments, *lines],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        said_by = [each.communicate(timeout=seconds + 60)[0] for each in clients]
    finally:
        for each in clients:
            each.kill()
    if any(each.returncode for each in clients):
        raise RuntimeError("a client met an error")
    return sum(map(float, said_by))


@dataclass
class Line:
    """One connection, and how many bytes of its present answer have come."""

    socket: socket.socket
    came: int = 0


def main() -> None:
    """Ask as fast as answers come; print how many a second."""
    host, port, path, seconds, connections, *headers = sys.argv[1:]
    head = "".join(f"{line}\r\n" for line in [f"Host: {host}:{port}", *headers])
    request = f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
    address = (host, int(port))
    length, status = _first_answer(address, request)
    selector = selectors.DefaultSelector()
    for _ in range(int(connections)):
        line = Line(socket.create_connection(address))
        line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(line.socket, selectors.EVENT_READ, line)
        line.socket.sendall(request)
    answers = 0
    began = time.perf_counter()
    end = began + float(seconds)
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(end - now):
            line = key.data
            data = line.socket.recv(READ)
            if not data or (line.came == 0 and not data.startswith(status)):
                raise SystemExit("another answer than the first")
            line.came += len(data)
            if line.came >= length:
                line.came = 0
                answers += 1
                line.socket.sendall(request)
    print(answers / (time.perf_counter() - began))


def _first_answer(address: tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """How many bytes an answer has, and its status line."""
    with socket.create_connection(address) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(READ)
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0]
        if status.split()[1][:1] not in b"23":
            raise SystemExit(status.decode())
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if found or b" 304 " in status:
            return len(head) + 4 + (int(found[1]) if found else 0), status
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(READ)
        return len(head) + 4 + len(body), status


if __name__ == "__main__":
    main()
