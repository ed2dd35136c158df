"""agnhost's most used subcommands: pause, netexec, serve-hostname, test-webserver, connect, help.

agnhost netexec --http-port=8080 --udp-port=8081      /hostname /clientip /echo?msg= /healthz /exit?code= /shell?cmd= /header?key= /hostName
agnhost serve-hostname --port=9376                    the hostname, and nothing else
agnhost connect HOST:PORT --timeout=1s                exit 0, or 1 with REFUSED, TIMEOUT, DNS, OTHER on standard error
"""

import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Sequence

from kubette.runtime.stand_ins import pause

_SHELL_TIMEOUT_S = 60.0


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128
    address_family = socket.AF_INET


Route = Callable[[dict[str, str], http.server.BaseHTTPRequestHandler], tuple[int, str]]


def _flags(words: list[str], defaults: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    values, rest = dict(defaults), []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, has_value, value = word.lstrip("-").partition("=")
        if name not in values:
            raise ValueError(f"Error: unknown flag: --{name}")
        values[name] = value if has_value else words.pop(0) if words and defaults[name] not in ("true", "false") else "true"
    return values, rest


def _http(port: int, route: Callable[[str], Route | None]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            handler = route(parts.path)
            status, text = handler(dict(urllib.parse.parse_qsl(parts.query)), self) if handler else (404, "404 page not found\n")
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            print(f"GET {self.path}", flush=True)

    _Server(("", port), Handler).serve_forever()


def _shell(query: dict[str, str], _: object) -> tuple[int, str]:
    try:
        done = subprocess.run(["/bin/sh", "-c", query.get("cmd", "")], capture_output=True, text=True, timeout=_SHELL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        return 200, json.dumps({"error": str(error)})
    result = {"output": done.stdout + done.stderr}
    return 200, json.dumps({**result, "error": f"exit status {done.returncode}"} if done.returncode else result)


def _exit(query: dict[str, str], _: object) -> tuple[int, str]:
    code = int(query.get("code") or 0)
    threading.Timer(0.05, lambda: os._exit(code)).start()
    return 200, ""


def _netexec(words: list[str]) -> int:
    flags, _ = _flags(words, {"http-port": "8080", "udp-port": "8081", "sctp-port": "-1", "delay-shutdown": "0"})
    routes: dict[str, Route] = {
        "/": lambda q, r: (200, f"NOW: {r.date_time_string()}"),
        "/clientip": lambda q, r: (200, f"{r.client_address[0]}:{r.client_address[1]}"),
        "/echo": lambda q, r: (int(q.get("code") or 200), q.get("msg", "")),
        "/exit": _exit,
        "/healthz": lambda q, r: (200, ""),
        "/hostname": lambda q, r: (200, socket.gethostname()),
        "/hostName": lambda q, r: (200, socket.gethostname()),
        "/header": lambda q, r: (200, r.headers.get(q.get("key", ""), "")),
        "/shell": _shell,
    }
    if int(flags["udp-port"]) > 0:
        threading.Thread(target=_udp, args=(int(flags["udp-port"]),), daemon=True).start()
    print(f"Started HTTP server on port {flags['http-port']}", flush=True)
    _http(int(flags["http-port"]), routes.get)
    return 0


def _udp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", port))
        print(f"Started UDP server on port {port}", flush=True)
        while True:
            data, peer = server.recvfrom(2048)
            command, _, argument = data.decode(errors="replace").strip().partition(" ")
            replies = {"hostname": socket.gethostname(), "hostName": socket.gethostname(), "clientip": f"{peer[0]}:{peer[1]}", "echo": argument}
            if command in replies:
                server.sendto(replies[command].encode(), peer)


def _serve_hostname(words: list[str]) -> int:
    flags, _ = _flags(words, {"port": "9376", "http": "true", "tcp": "false", "udp": "false", "close": "false"})
    _http(int(flags["port"]), lambda path: lambda q, r: (200, socket.gethostname()))
    return 0


def _test_webserver(words: list[str]) -> int:
    flags, _ = _flags(words, {"port": "80"})
    _http(int(flags["port"]), lambda path: lambda q, r: (200, f"{path}\n"))
    return 0


def _connect(words: list[str]) -> int:
    flags, rest = _flags(words, {"timeout": "0s", "protocol": "tcp"})
    host, _, port = (rest[0] if rest else "").rpartition(":")
    timeout = float(flags["timeout"].removesuffix("ms")) / 1000 if flags["timeout"].endswith("ms") else float(flags["timeout"].rstrip("s") or 0)
    try:
        socket.create_connection((host, int(port)), timeout or None).close()
    except socket.gaierror:
        verdict = "DNS"
    except TimeoutError:
        verdict = "TIMEOUT"
    except ConnectionRefusedError:
        verdict = "REFUSED"
    except (OSError, ValueError):
        verdict = "OTHER"
    else:
        return 0
    print(verdict, file=sys.stderr)
    return 1


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "netexec": _netexec,
    "serve-hostname": _serve_hostname,
    "test-webserver": _test_webserver,
    "connect": _connect,
    "pause": lambda words: pause.main(words),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The program agnhost."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = _COMMANDS.get(words[0] if words else "")
    if command is None:
        print("Usage:\n  app [command]\n\nAvailable Commands:\n  " + "\n  ".join(sorted(_COMMANDS)), file=sys.stderr)
        return 0 if words in ([], ["help"]) else 1
    import setproctitle

    setproctitle.setproctitle(" ".join(["/agnhost", *words]))
    if words[0] not in ("pause", "connect"):
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        return command(words[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
