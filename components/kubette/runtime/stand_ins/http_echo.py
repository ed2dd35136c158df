"""hashicorp/http-echo: every request gets the text of `-text` (or of the environment variable ECHO_TEXT) on `-listen` (:5678)."""

import http.server
import os
import signal
import socketserver
import sys
import time
from collections.abc import Sequence


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _options(words: list[str]) -> dict[str, str]:
    options = {"text": os.environ.get("ECHO_TEXT", ""), "listen": ":5678", "status-code": "200"}
    while words:
        name, has_value, value = words.pop(0).lstrip("-").partition("=")
        if name not in options:
            raise ValueError(f"flag provided but not defined: -{name}")
        if not has_value:
            if not words:
                raise ValueError(f"flag needs an argument: -{name}")
            value = words.pop(0)
        options[name] = value.strip('"')
    if not options["text"]:
        raise ValueError("Missing -text option!")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The program http-echo."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _options(list(words))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 127

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = options["text"].encode() + b"\n"
            self.send_response(int(options["status-code"]))
            self.send_header("X-App-Name", "http-echo")
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            print(
                f"{time.strftime('%Y/%m/%d %H:%M:%S')} {self.headers.get('Host', '')} {self.client_address[0]}:{self.client_address[1]} {format % args}",
                flush=True,
            )

    host, _, port = options["listen"].rpartition(":")
    import setproctitle

    setproctitle.setproctitle(" ".join(["/http-echo", *words]))
    server = _Server((host, int(port)), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    print(f"{time.strftime('%Y/%m/%d %H:%M:%S')} [INFO] server is listening on {options['listen']}", flush=True)
    server.serve_forever()
    return 0
