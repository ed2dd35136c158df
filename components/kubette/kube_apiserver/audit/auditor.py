"""The audit of requests: one `Trail` for each that the policy wants recorded, written stage by stage (upstream: endpoints/filters/audit.go).

Where nothing is to be recorded there is no trail, and without --audit-policy-file no auditor: then a request costs nothing here.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from kubette.apimachinery import codec, status, timestamps
from kubette.apimachinery.status import ApiError
from kubette.component_base import flags, logs
from kubette.component_base.metrics import Registry
from kubette.component_base.run import StartupError
from kubette.kube_apiserver.audit import event, log_backend
from kubette.kube_apiserver.audit import policy as audit_policy
from kubette.kube_apiserver.audit.log_backend import Backend, RotatedFile, Standard
from kubette.kube_apiserver.audit.options import BLOCKING_STRICT
from kubette.kube_apiserver.audit.policy import Level, Policy
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, Decision, UserInfo
from kubette.kube_apiserver.filters.answer import Answer
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

PLUGIN = "log"
LATENCY = "apiserver.latency.k8s.io/"
DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"


def read_policy(path: str) -> Policy:
    """Raises StartupError."""
    try:
        with open(path, "rb") as file:
            body = file.read()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise StartupError(f'loading audit policy file: failed to read file path "{path}": open {path}: {why}') from error
    try:
        policy, unknown = audit_policy.load(codec.decode_yaml(body))
    except codec.CodecError as error:
        raise StartupError(f"loading audit policy file: failed decoding: {error}: from file {path}") from error
    except audit_policy.PolicyError as error:
        raise StartupError(f"loading audit policy file: {error}: from file {path}") from error
    if unknown:
        log.warning(audit_policy.lenient_warning(unknown))
    return policy


def build(options: Any, clock: Clock, registry: Registry) -> "Auditor | None":
    """None where nothing is audited: it takes a policy and a place to write to. Raises StartupError."""
    policy = read_policy(options.audit_policy_file) if options.audit_policy_file else None
    if not options.audit_log_path:
        return None
    if policy is None:
        log.v(2, "No audit policy file provided, no events will be recorded for log backend")
        return None
    if options.audit_log_path == "-":
        output: log_backend.Output = Standard()
    else:
        output = RotatedFile(options.audit_log_path, options.audit_log_maxsize, options.audit_log_maxbackup, options.audit_log_maxage, clock)
    return Auditor(policy, output, options.audit_log_mode, options.audit_log_format, clock, registry)


class Auditor:
    def __init__(self, policy: Policy, output: log_backend.Output, mode: str, form: str, clock: Clock, registry: Registry) -> None:
        self._policy, self._clock = policy, clock
        self._encode = event.json_line if form == "json" else event.legacy_line
        self._is_strict = mode == BLOCKING_STRICT
        self._backend = Backend(output, mode, self._lost)
        self._events = registry.counter("apiserver_audit_event_total", "[ALPHA] Counter of audit events generated and sent to the audit backend.")
        self._errors = registry.counter(
            "apiserver_audit_error_total",
            "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
            ("plugin",),
        )
        self._levels = registry.counter(
            "apiserver_audit_level_total", "[ALPHA] Counter of policy levels for audit events (1 per request).", ("level",)
        )
        self._rejected = registry.counter(
            "apiserver_audit_requests_rejected_total", "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend."
        )

    def _lost(self, count: int, why: str) -> None:
        self._errors.inc(PLUGIN, by=count)
        log.error("Error in audit plugin 'log' affecting audit events", err=why, events=count)

    def close(self) -> None:
        self._backend.flush()

    def begin(
        self, request: web.BaseRequest, attrs: AuthzAttributes, audit_id: str, received: float, is_long_running: bool, is_known: bool = True
    ) -> "Trail | None":
        """The trail of a request, its first stage written. Raises InternalError when that fails and the mode is strict."""
        outcome = self._policy.evaluate(attrs, is_known)
        self._levels.inc(outcome.level.text)
        if outcome.level is Level.NONE:
            return None
        record = event.head(outcome.level, audit_id, request.path_qs, attrs, received)
        record["sourceIPs"] = event.source_ips(request.headers, request.remote or "")
        agent = request.headers.get("User-Agent", "")
        if agent:
            record["userAgent"] = event.user_agent(agent)
        trail = Trail(self, record, outcome, is_long_running)
        request[_KEY] = trail
        if is_known and not self.emit(record, audit_policy.REQUEST_RECEIVED, outcome, record["requestReceivedTimestamp"]) and self._is_strict:
            self._rejected.inc()
            raise status.internal("failed to store audit event")
        return trail

    def emit(self, record: event.Object, stage: str, outcome: audit_policy.Outcome, moment: str = "") -> bool:
        """Write the record as it is at a stage; whether it could be."""
        if stage in outcome.omit_stages:
            return True
        record["stage"], record["stageTimestamp"] = stage, moment or timestamps.format_micro_time(self._clock.wall())
        self._events.inc()
        return self._backend.put(self._encode(record))


class Trail:
    """What is known so far of one request."""

    __slots__ = ("_auditor", "_is_over", "_is_started", "_outcome", "_record", "is_long_running", "preparing_s")

    def __init__(self, auditor: Auditor, record: event.Object, outcome: audit_policy.Outcome, is_long_running: bool) -> None:
        self._auditor, self._record, self._outcome = auditor, record, outcome
        self.is_long_running = is_long_running
        self.preparing_s = 0.0  # in which an object was made ready to be stored
        self._is_started = self._is_over = False

    def impersonated(self, user: UserInfo) -> None:
        self._record["impersonatedUser"] = event.user_of(user)

    def decided(self, decision: Decision) -> None:
        """What the authorizers said."""
        self.annotate(DECISION, "allow" if decision.allowed else "forbid")
        self.annotate(REASON, decision.reason)

    def annotate(self, key: str, value: str) -> None:
        self._record.setdefault("annotations", {})[key] = value

    def took(self, what: str, seconds: float) -> None:
        """How long a part of the work took. Upstream says it of slow requests; here it is said of each, since `kubette trace` tells the story of fast ones."""
        self.annotate(LATENCY + what, flags.format_duration(seconds))

    def prepared(self, seconds: float) -> None:
        """Defaults, admission, validation; again, when another writer was faster."""
        self.preparing_s += seconds
        self.took("admission", self.preparing_s)

    def sent(self, obj: event.Object) -> None:
        """The object of the request, before anything was done to it."""
        reference = self._record.get("objectRef")
        if reference is not None:
            event.complete_reference(reference, obj)
        if self._outcome.level >= Level.REQUEST:
            shown = event.without_managed_fields(obj) if self._outcome.omit_managed_fields else obj
            self._record["requestObject"] = orjson.Fragment(orjson.dumps(shown))

    def named(self, name: str) -> None:
        """The name of a new object, where it was left to the server."""
        self._record.get("objectRef", {}).setdefault("name", name)

    def patched(self, body: bytes, media_type: str) -> None:
        """The patch as it came; YAML is shown as what it means."""
        if self._outcome.level >= Level.REQUEST:
            try:
                self._record["requestObject"] = codec.decode_yaml(body) if "yaml" in media_type else event.as_json(body, False)
            except codec.CodecError:
                return  # the verb refuses it in a moment

    def started(self, code: int) -> None:
        """The head of an answer is out; of one that goes on, that is a stage."""
        if self._is_started:
            return
        self._is_started = True
        self._record.setdefault("responseStatus", {"metadata": {}})["code"] = code
        if self.is_long_running:
            self._auditor.emit(self._record, audit_policy.RESPONSE_STARTED, self._outcome)

    def answered(self, answer: Answer) -> None:
        """A whole answer."""
        if self._is_over:
            return
        record = self._record
        body = answer.body
        if answer.content_type == codec.YAML:
            body = orjson.dumps(codec.decode_yaml(body))
        record["responseStatus"] = event.response_status(answer.status, body)
        if self._outcome.level >= Level.REQUEST_RESPONSE and "objectRef" in record:
            shown = event.as_json(body, self._outcome.omit_managed_fields)
            if shown is not None:
                record["responseObject"] = shown
        if self.is_long_running:
            self.started(answer.status)

    def completed(self) -> None:
        """The last stage, unless there was another; of an answer that nobody waited for too."""
        if self._is_over:
            return
        self._is_over = True
        if "responseStatus" not in self._record:
            self._record["responseStatus"] = {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}
        self._auditor.emit(self._record, audit_policy.RESPONSE_COMPLETE, self._outcome)

    def panicked(self, error: Exception) -> None:
        failure = {"metadata": {}, "status": "Failure", "message": f"APIServer panic'd: {error}", "reason": "InternalError", "code": 500}
        self._record["responseStatus"] = failure
        self._is_over = True
        self._auditor.emit(self._record, audit_policy.PANIC, self._outcome)

    def unauthenticated(self, request: web.BaseRequest, error: ApiError) -> None:
        """Nobody knows who asked: one record, of the refusal."""
        self._record["responseStatus"] = {
            "metadata": {},
            "message": attempted(request.headers, request.query, _has_certificate(request)),
            "code": error.code,
        }
        self._is_over = True
        self._auditor.emit(self._record, audit_policy.RESPONSE_STARTED, self._outcome)


_KEY = web.RequestKey("trail", Trail)  # what streams an answer has the request, not the call


def of(request: web.BaseRequest) -> Trail | None:
    """The trail of a request; None where it is not recorded."""
    return request.get(_KEY)


def started(request: web.BaseRequest, code: int) -> None:
    """For what streams its answer."""
    trail = of(request)
    if trail is not None:
        trail.started(code)


def _has_certificate(request: web.BaseRequest) -> bool:
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    return tls is not None and tls.getpeercert(True) is not None


def attempted(headers: Mapping[str, str], query: Mapping[str, str], has_certificate: bool) -> str:
    """Which credentials a request brought that did not count."""
    scheme, _, rest = headers.get("Authorization", "").strip().partition(" ")
    methods: list[str] = [name for name in ("basic", "bearer") if scheme.lower() == name and rest]
    if query.get("access_token", "").strip():
        methods.append("access_token")
    if has_certificate:
        methods.append("x509")
    return f"Authentication failed, attempted: {', '.join(methods)}" if methods else "Authentication failed, no credentials provided"
