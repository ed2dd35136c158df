"""A static web server in the place of nginx and httpd: port 80, the document root, the access log in combined format, the signals.

    nginx -g 'daemon off;'      SIGTERM, SIGINT stop at once; SIGQUIT finishes open requests; SIGHUP reopens nothing and stays; -v -V -t -s as nginx's
    httpd-foreground            SIGTERM stops, SIGWINCH finishes open requests

nginx's configuration is read for what a page needs: `listen`, `root`, `index`, `return`, `location` prefixes, `proxy_pass` is refused at start.
"""

import asyncio
import email.utils
import html
import mimetypes
import os
import re
import signal
import socket
import sys
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field

HEAD_BYTES_MAX = 32 << 10
IDLE_S = 75.0
CONNECTIONS_MAX = 1024  # nginx's worker_connections
NGINX_VERSION = "nginx/1.27.3"
HTTPD_VERSION = "Apache/2.4.62 (Unix)"


class ConfigurationError(Exception):
    """nginx's `[emerg]` line."""


@dataclass(slots=True)
class Location:
    prefix: str
    root: str = ""
    alias: str = ""
    index: list[str] = field(default_factory=list)
    answer: tuple[int, str] | None = None
    exact: bool = False
    autoindex: bool = False


@dataclass(slots=True)
class Site:
    """One `server` block."""

    ports: list[int] = field(default_factory=list)
    root: str = "/usr/share/nginx/html"
    index: list[str] = field(default_factory=lambda: ["index.html"])
    locations: list[Location] = field(default_factory=list)
    answer: tuple[int, str] | None = None
    product: str = NGINX_VERSION


def _tokens(text: str) -> list[str]:
    found = re.findall(r'#[^\n]*|"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|([{};])|([^\s{};"\']+)', text)
    return [next((part for part in groups if part), "") for groups in found if any(groups)]


# What changes nothing about a static page served in the foreground.
_ACCEPTED = {
    "user", "worker_processes", "error_log", "pid", "events", "http", "include", "default_type", "access_log", "log_format", "sendfile", "tcp_nopush",
    "keepalive_timeout", "server_name", "error_page", "gzip", "worker_connections", "types", "types_hash_max_size", "charset", "server_tokens", "tcp_nodelay",
    "client_max_body_size", "multi_accept", "try_files", "expires", "add_header", "load_module", "stub_status",
}  # fmt: skip


def parse_nginx(text: str, where: str) -> list[Site]:
    """The `server` blocks of a configuration. Raises ConfigurationError for a directive that would matter and is not played."""
    sites: list[Site] = []
    stack: list[tuple[str, object]] = []
    words: list[str] = []
    for token in _tokens(text):
        if token == "{":
            name = words[0] if words else ""
            if name == "server":
                sites.append(Site())
                stack.append((name, sites[-1]))
            elif name == "location" and sites:
                place = Location(words[-1], exact="=" in words[1:-1])
                sites[-1].locations.append(place)
                stack.append((name, place))
            else:
                stack.append((name, None))
            words = []
        elif token == "}":
            if stack:
                stack.pop()
        elif token == ";":
            if words:
                _directive(words, stack, sites, where)
            words = []
        else:
            words.append(token)
    return sites


def _directive(words: list[str], stack: list[tuple[str, object]], sites: list[Site], where: str) -> None:
    name, values = words[0], words[1:]
    target = next((t for _, t in reversed(stack) if t is not None), None)
    if any(block == "types" for block, _ in stack):
        return
    if name == "listen" and sites:
        port = values[0].rpartition(":")[2]
        if port.isdigit():
            sites[-1].ports.append(int(port))
    elif name == "root" and isinstance(target, Site | Location):
        target.root = values[0]
    elif name == "alias" and isinstance(target, Location):
        target.alias = values[0]
    elif name == "index" and isinstance(target, Site | Location):
        target.index = values
    elif name == "autoindex" and isinstance(target, Location):
        target.autoindex = values == ["on"]
    elif name == "return" and isinstance(target, Site | Location):
        target.answer = (int(values[0]), " ".join(values[1:])) if values[0].isdigit() else (302, values[0])
    elif name not in _ACCEPTED:
        raise ConfigurationError(
            f'nginx: [emerg] unknown directive "{name}" in {where} (this is kubette\'s stand-in for nginx, which serves files only)'
        )


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    kind: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()


_PHRASES = {
    200: "OK",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Not Allowed",
}


def _page(status: int, product: str) -> Answer:
    title = f"{status} {_PHRASES.get(status, '')}".strip()
    body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>{product}</center>\r\n</body>\r\n</html>\r\n"
    return Answer(status, body.encode())


def answer(site: Site, method: str, target: str, modified_since: str = "") -> Answer:
    """What a request gets."""
    path = os.path.normpath("/" + urllib.parse.unquote(target.partition("?")[0]).lstrip("/"))
    if target.partition("?")[0].endswith("/") and path != "/":
        path += "/"
    place = max(
        (x for x in site.locations if (path == x.prefix if x.exact else path.startswith(x.prefix))),
        key=lambda x: (x.exact, len(x.prefix)),
        default=None,
    )
    fixed = (place.answer if place else None) or site.answer
    if fixed is not None:
        status, text = fixed
        if status in (301, 302, 303, 307, 308):
            return Answer(status, b"", headers=(("Location", text.replace("$request_uri", target)),))
        return Answer(status, text.replace("\\n", "\n").replace("$hostname", socket.gethostname()).encode(), "text/plain")
    if method not in ("GET", "HEAD"):
        return _page(405, site.product)
    root = (place.root if place else "") or site.root
    file = place.alias + path[len(place.prefix) :] if place and place.alias else root.rstrip("/") + path
    if os.path.isdir(file):
        if not path.endswith("/"):
            return Answer(301, _page(301, site.product).body, headers=(("Location", path + "/"),))
        names = (place.index if place else []) or site.index
        index = next((os.path.join(file, n) for n in names if os.path.isfile(os.path.join(file, n))), "")
        if not index:
            return _listing(file, path) if place and place.autoindex else _page(403, site.product)
        file = index
    try:
        with open(file, "rb") as opened:
            body = opened.read()
        stamp = os.stat(file).st_mtime
    except PermissionError:
        return _page(403, site.product)
    except OSError:
        return _page(404, site.product)
    modified = email.utils.formatdate(stamp, usegmt=True)
    headers = (("Last-Modified", modified), ("ETag", f'"{int(stamp):x}-{len(body):x}"'), ("Accept-Ranges", "bytes"))
    if modified_since == modified:
        return Answer(304, b"", headers=headers)
    return Answer(200, body, mimetypes.guess_type(file)[0] or "application/octet-stream", headers)


def _listing(directory: str, path: str) -> Answer:
    links = "".join(f'<a href="{urllib.parse.quote(n)}">{html.escape(n)}</a>\r\n' for n in sorted(os.listdir(directory)))
    return Answer(200, f"<html>\r\n<head><title>Index of {path}</title></head>\r\n<body><pre>{links}</pre></body>\r\n</html>\r\n".encode())


class _Server:
    """Serves one site until it is stopped, at once or after the open requests."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, graceful: Sequence[signal.Signals]) -> None:
        loop = asyncio.get_running_loop()
        stop: asyncio.Future[bool] = loop.create_future()

        def on(gracefully: bool) -> None:
            if not stop.done():
                stop.set_result(gracefully)

        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, on, False)
        for which in graceful:
            loop.add_signal_handler(which, on, True)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        servers = [await asyncio.start_server(self._connection, None, port, limit=HEAD_BYTES_MAX) for port in self._site.ports or [80]]
        gracefully = await stop
        for server in servers:
            server.close()
        if gracefully:
            await self._idle.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._open >= CONNECTIONS_MAX:
                return
            while await self._request(reader, writer):
                pass
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(IDLE_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self._open += 1
        self._idle.clear()
        try:
            headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:] if line)}
            words = head[0].split(" ")
            method, target, version = words if len(words) == 3 else ("", "", "")
            length = headers.get("content-length", "0")
            await reader.readexactly(min(int(length) if length.isdigit() else 0, 1 << 20))
            result = answer(self._site, method, target, headers.get("if-modified-since", "")) if method else _page(400, self._site.product)
            keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
            lines = [
                f"HTTP/1.1 {result.status} {_PHRASES.get(result.status, 'Status')}",
                f"Server: {self._site.product}",
                f"Date: {email.utils.formatdate(usegmt=True)}",
                *([f"Content-Type: {result.kind}"] if result.status != 304 else []),
                f"Content-Length: {len(result.body)}",
                f"Connection: {'keep-alive' if keep else 'close'}",
                *(f"{n}: {v}" for n, v in result.headers),
            ]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else result.body))
            await writer.drain()
            peer = (writer.get_extra_info("peername") or ("-",))[0].removeprefix("::ffff:")
            agent, referer, forwarded = headers.get("user-agent", "-"), headers.get("referer", "-"), headers.get("x-forwarded-for", "-")
            stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z")
            tail = f' "{forwarded}"' if self._site.product.startswith("nginx") else ""
            print(f'{peer} - - [{stamp}] "{head[0]}" {result.status} {len(result.body)} "{referer}" "{agent}"{tail}', flush=True)
            return keep
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()


def _title(text: str) -> None:
    import setproctitle

    setproctitle.setproctitle(text)
    setproctitle.setthreadtitle(text.split(":")[0].split(" ")[0][:15])


def _notice(text: str) -> None:
    print(f"{time.strftime('%Y/%m/%d %H:%M:%S')} [notice] {os.getpid()}#{os.getpid()}: {text}", file=sys.stderr, flush=True)


def nginx(argv: Sequence[str] | None = None) -> int:
    """The program nginx."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "-v" in words or "-V" in words:
        print(f"nginx version: {NGINX_VERSION} (kubette's stand-in)", file=sys.stderr)
        return 0
    if "-s" in words:
        return _signal_running(words[words.index("-s") + 1 :][:1])
    path = words[words.index("-c") + 1] if "-c" in words[:-1] else "/etc/nginx/nginx.conf"
    try:
        site = _nginx_site(path)
    except (OSError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 1
    if "-t" in words:
        print(f"nginx: the configuration file {path} syntax is ok\nnginx: configuration file {path} test is successful", file=sys.stderr)
        return 0
    _title("nginx: master process " + " ".join(["nginx", *words]))
    for line in ('using the "epoll" event method', NGINX_VERSION, f"OS: Linux {os.uname().release}", "start worker processes"):
        _notice(line)
    try:
        with open("/run/nginx.pid", "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError:
        pass  # a read-only root
    return _serve(site, [signal.SIGQUIT], "nginx: [emerg] bind() to 0.0.0.0:{port} failed ({reason})")


def _nginx_site(path: str) -> Site:
    with open(path) as file:
        text = file.read()
    sites = parse_nginx(text, path)
    import glob

    for pattern in re.findall(r"^\s*include\s+([^;]+);", text, re.MULTILINE):
        for name in sorted(glob.glob(pattern.strip())):
            if name.endswith(".conf"):
                with open(name) as file:
                    sites += parse_nginx(file.read(), name)
    if not sites:
        return Site(ports=[80])
    first = sites[0]
    for other in sites[1:]:
        first.ports += [p for p in other.ports if p not in first.ports]
    return first


def _signal_running(names: list[str]) -> int:
    signals = {"stop": signal.SIGTERM, "quit": signal.SIGQUIT, "reload": signal.SIGHUP, "reopen": signal.SIGUSR1}
    if not names or names[0] not in signals:
        print('nginx: invalid option: "-s ' + "".join(names) + '"', file=sys.stderr)
        return 1
    try:
        with open("/run/nginx.pid") as file:
            os.kill(int(file.read()), signals[names[0]])
    except (OSError, ValueError):
        print('nginx: [error] invalid PID number "" in "/run/nginx.pid"', file=sys.stderr)
        return 1
    return 0


def httpd(argv: Sequence[str] | None = None) -> int:
    """The program httpd."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "-v" in words:
        print(f"Server version: {HTTPD_VERSION} (kubette's stand-in)")
        return 0
    _title(" ".join(["httpd", *words]))
    print(f"[mpm_event:notice] [pid {os.getpid()}] AH00489: {HTTPD_VERSION} configured -- resuming normal operations", file=sys.stderr, flush=True)
    site = Site([80], "/usr/local/apache2/htdocs", locations=[Location("/", autoindex=True)], product=HTTPD_VERSION)
    return _serve(site, [signal.SIGWINCH], "(98)Address already in use: AH00072: make_sock: could not bind to address 0.0.0.0:{port}")


def httpd_foreground(argv: Sequence[str] | None = None) -> int:
    """The image's start script."""
    return httpd(["-DFOREGROUND", *(sys.argv[1:] if argv is None else argv)])


def _serve(site: Site, graceful: Sequence[signal.Signals], in_use: str) -> int:
    try:
        asyncio.run(_Server(site).run(graceful))
    except OSError as error:
        print(in_use.format(port=(site.ports or [80])[0], reason=f"{error.errno}: {os.strerror(error.errno or 0)}"), file=sys.stderr)
        return 1
    return 0
