"""The endpoints of a cluster over HTTP: asked one after the other until one answers, after they were asked once who the members are."""

import json
import os
import random
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kubette.etcdctl import golang
from kubette.etcdctl.connection import without_brackets
from kubette.etcdctl.v2.command_line import Parsed

BAD_ARGS, BAD_CONNECTION, SERVER_ERROR, NOT_HEALTHY = 1, 2, 4, 5
DEFAULT_ENDPOINTS = "http://127.0.0.1:2379,http://127.0.0.1:4001"
_ANSWER_BYTES_MAX = 64 << 20
_INVALID_JSON = "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint."


class FailureError(Exception):
    """Ends the program: what to say on standard error, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class ApiError(Exception):
    """A request did not succeed."""


class ClusterError(ApiError):
    """No endpoint answered."""

    def __init__(self, problems: Sequence[str], is_connection: bool) -> None:
        lines = [f"error #{number}: {problem}\n" for number, problem in enumerate(problems)]
        super().__init__("client: etcd cluster is unavailable or misconfigured" + "".join(f"; {line}" for line in lines))
        self.detail = "".join(lines)
        self.is_connection = is_connection


def fail(error: ApiError | str, code: int = SERVER_ERROR) -> NoReturn:
    """As upstream's handleError."""
    more = f"\n{error.detail}" if isinstance(error, ClusterError) else ""
    raise FailureError(f"Error:  {error}{more}", code)


def golang_json(document: Any) -> str:
    """As encoding/json writes it, which is careful with HTML."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


@dataclass(slots=True)
class Answer:
    """Of an HTTP request; `document` is what the body says, None when that is no JSON."""

    status: int
    document: Any
    text: str
    headers: dict[str, str]


def endpoints_of(options: Parsed) -> list[str]:
    """Where to begin, by flags and environment. Raises FailureError."""
    domain = options["discovery-srv"] or os.environ.get("ETCDCTL_DISCOVERY_SRV", "")
    if domain:
        from kubette.etcdctl import discovery
        from kubette.etcdctl.errors import CommandError

        insecure = options["insecure-discovery"] or bool(os.environ.get("ETCDCTL_INSECURE_DISCOVERY"))
        try:
            found = discovery.endpoints(domain, os.environ.get("ETCDCTL_DISCOVERY_SRV_NAME", ""), insecure)
        except CommandError as error:
            raise FailureError(str(error)) from None
        return list(found)
    given = ""
    for name in ("endpoints", "endpoint", "peers"):
        given = given or options[name] or os.environ.get(f"ETCDCTL_{name.upper()}", "")
    return [each if "://" in each else f"http://{each}" for each in without_brackets(given or DEFAULT_ENDPOINTS).split(",")]


class Client:
    """With `sync`, the members are asked first where they serve; every request goes there then."""

    def __init__(self, options: Parsed, sync: bool = True) -> None:
        self.endpoints = endpoints_of(options)
        random.shuffle(self.endpoints)
        self._timeout_s, self._total_timeout_s = options["timeout"], options["total-timeout"]
        self._debug = options["debug"]
        self._context = _tls(options)
        self._headers = _authorization(options)
        if sync and not options["no-sync"]:
            self._sync()
        if self._debug:
            print(f"Cluster-Endpoints: {', '.join(self.endpoints)}", file=sys.stderr)

    def _sync(self) -> None:
        if self._debug:
            print(f"start to sync cluster using endpoints({','.join(self.endpoints)})", file=sys.stderr)
        try:
            found = [url for member in self.members() for url in member["clientURLs"]]
        except ClusterError as error:
            if error.is_connection:
                fail(error, BAD_CONNECTION)
        except ApiError:
            pass  # who may not ask, or has no v2 API to ask, goes on with what was given
        else:
            if not found:
                given = ",".join(self.endpoints)
                hint = f"Try '--no-sync' if you want to access non-published client endpoints({given})."
                print(f"etcd cluster has no published client endpoints.\n{hint}", file=sys.stderr)
                fail("client: no endpoints available", SERVER_ERROR)
            if sorted(found) != sorted(self.endpoints):
                self.endpoints = random.sample(found, len(found))
        if self._debug:
            print(f"got endpoints({','.join(self.endpoints)}) after sync", file=sys.stderr)

    def health(self, url: str) -> Answer:
        """What a member says of itself. Raises OSError."""
        return self._ask(urllib.request.Request(f"{url}/health"), self._timeout_s)

    def send(self, method: str, path: str, data: bytes | None = None, kind: str = "", forever: bool = False, once: bool = False) -> Answer:
        """What the first endpoint answers that does; with `once` nobody else is asked. Raises ApiError."""
        problems: list[str] = []
        are_connections = True
        end = time.monotonic() + self._total_timeout_s
        for endpoint in self.endpoints:
            left_s = end - time.monotonic()
            if left_s <= 0 and not forever:
                raise ApiError("context deadline exceeded")
            headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
            request = urllib.request.Request(endpoint + path, data, headers, method=method)
            if self._debug:
                body = f" -d {golang.quote(data or b'')}" if data is not None else ""
                print(f"cURL Command: curl -X {method} {endpoint}{path}{body}", file=sys.stderr)
            try:
                answer = self._ask(request, None if forever else min(left_s, self._timeout_s or left_s))
            except (OSError, ValueError) as error:
                problem = problem_with(endpoint, error)
            else:
                if answer.status // 100 != 5:
                    return answer
                are_connections = False
                problem = f"client: etcd member {endpoint} has no leader"
            if once:
                raise ApiError(problem)
            problems.append(problem)
        raise ClusterError(problems, are_connections)

    def _ask(self, request: urllib.request.Request, timeout_s: float | None) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=self._context) as answer:
                return _answer(answer.status, answer.read(_ANSWER_BYTES_MAX), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.read(_ANSWER_BYTES_MAX), dict(error.headers))

    # The APIs

    def keys(
        self,
        method: str,
        key: str,
        form: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        forever: bool = False,
        once: bool = False,
    ) -> dict[str, Any]:
        """One request of the keys API; the answer's `index` is the store's. Raises ApiError."""
        path = urllib.parse.quote(canonical(f"/v2/keys/{key}" if key else "/v2/keys"), safe="/$&+,:;=@")
        if query:
            path += "?" + urllib.parse.urlencode(sorted(query.items()))
        data = urllib.parse.urlencode(sorted(form.items())).encode() if form is not None else None
        answer = self.send(method, path, data, "application/x-www-form-urlencoded" if data is not None else "", forever, once)
        document = answer.document
        if not isinstance(document, dict):
            raise ApiError(_INVALID_JSON)
        if answer.status not in (200, 201):
            cause, index = document.get("cause", ""), document.get("index", 0)
            raise ApiError(f"{document.get('errorCode', 0)}: {document.get('message', '')} ({cause}) [{index}]")
        return {**document, "index": int(answer.headers.get("X-Etcd-Index", "0"))}

    def members(self) -> list[dict[str, Any]]:
        """Raises ApiError."""
        answer = self.send("GET", "/v2/members")
        _expect(answer, 200)
        return [{**each, "clientURLs": each.get("clientURLs") or []} for each in answer.document["members"]]

    def leader(self) -> dict[str, Any]:
        """Raises ApiError."""
        answer = self.send("GET", "/v2/members/leader")
        _expect(answer, 200)
        return dict(answer.document)

    def change_members(self, method: str, path: str, document: dict[str, Any] | None, *good: int, told: Sequence[int] = ()) -> Any:
        """One request of the members API that is answered with one of `good`; of those `told` the message is the error. Raises ApiError."""
        data = json.dumps(document).encode() if document is not None else None
        answer = self.send(method, f"/v2/members{path}", data, "application/json" if data is not None else "")
        if answer.status in told:
            raise ApiError((answer.document or {}).get("message", ""))
        _expect(answer, *good)
        return answer.document

    def auth(self, method: str, path: str, document: dict[str, Any] | None = None, told: bool = True) -> Any:
        """One request of the auth API; without `told` a refusal is a number. Raises ApiError."""
        data = json.dumps(document).encode() if document is not None else None
        answer = self.send(method, f"/v2/auth/{urllib.parse.quote(path)}", data, "application/json" if data is not None else "")
        if not told:
            _expect(answer, 200)
        if answer.status not in (200, 201):
            if answer.document is None:
                raise ApiError(_json_complaint(answer.text))
            raise ApiError(answer.document.get("message", ""))
        return answer.document


def _json_complaint(text: str) -> str:
    """What Go says of a text that is no JSON, for instance of its own "404 page not found"."""
    if not text.strip():
        return "unexpected end of JSON input"
    number = re.match(r"\d+\s*", text)
    return (
        f"invalid character '{text[number.end()]}' after top-level value"
        if number
        else f"invalid character '{text[0]}' looking for beginning of value"
    )


def canonical(path: str) -> str:
    """As upstream's CanonicalURLPath: absolute, in its shortest form, a trailing slash kept."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    clean = "/" + "/".join(parts)
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _answer(status: int, body: bytes, headers: dict[str, str]) -> Answer:
    text = body.decode("utf-8", "replace")
    try:
        return Answer(status, json.loads(text), text, headers)
    except ValueError:
        return Answer(status, None, text, headers)


def _expect(answer: Answer, *good: int) -> None:
    if answer.status not in good:
        raise ApiError(f"unexpected status code {answer.status}")


def problem_with(endpoint: str, error: Exception) -> str:
    """Why an endpoint did not answer, in Go's words."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "client: endpoint " + endpoint + " exceeded header timeout"
    if isinstance(reason, OSError) and reason.errno and not isinstance(reason, ssl.SSLError):
        return f"dial tcp {urllib.parse.urlsplit(endpoint).netloc}: connect: {os.strerror(reason.errno).lower()}"
    return str(reason)


def _tls(options: Parsed) -> ssl.SSLContext | None:
    ca, cert, key = (options[f"{each}-file"] or os.environ.get(f"ETCDCTL_{each.upper()}_FILE", "") for each in ("ca", "cert", "key"))
    if not ca and not cert:
        return None
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key or None)
    except FileNotFoundError as error:
        missing = next((each for each in (ca, cert, key) if each and not os.path.exists(each)), ca)
        raise FailureError(f"open {missing}: no such file or directory") from error
    except (OSError, ssl.SSLError) as error:
        raise FailureError(str(error)) from error
    return context


def _authorization(options: Parsed) -> dict[str, str]:
    user = options["username"] or os.environ.get("ETCDCTL_USERNAME", "")
    if not user:
        return {}
    if ":" not in user:
        user = f"{user}:{ask_password('Password: ')}"
    return {"Authorization": "Basic " + b64encode(user.encode()).decode()}


def ask_password(prompt: str) -> str:
    """Raises FailureError."""
    from kubette.etcdctl import context
    from kubette.etcdctl.errors import CommandError

    try:
        return context.ask_password(prompt)
    except CommandError as error:
        raise FailureError(str(error)) from error
