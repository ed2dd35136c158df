"""Pure: the way of one pod through the cluster, put together from what was written down of it: audit records, events, and etcd's log.

asked for → authenticated → authorized → admitted → written → noticed by the scheduler → bound → noticed by the kubelet → pulled → started → reported

A time is what its record says: the API server's for requests (its annotations say how long each part took), that of the component for an event (upstream's
event names end with their nanosecond). What nobody writes down, that a watcher has seen something, is the first thing that it then did.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.component_base.flags import parse_duration

Object = dict[str, Any]

LATENCY = "apiserver.latency.k8s.io/"
DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"
CREDENTIAL = "authentication.kubernetes.io/credential-id"
NODE_PREFIX = "system:node:"
COMPLETE, STARTED = "ResponseComplete", "ResponseStarted"
# The kubelet's events of a start that goes well, as steps of the picture.
STEPS_OF_EVENTS = {"Pulling": "pulling", "Pulled": "pulled", "Created": "created", "Started": "started"}


class MissingRecords(Exception):
    """The story cannot be told: the text says what there is no record of, and why that may be."""


@dataclass(frozen=True, slots=True)
class Write:
    """One conditional write of a key in etcd's log: it took place if the key was at revision `expected` then (0: if there was none)."""

    index: int
    term: int
    key: str
    expected: int
    value: Object


@dataclass(frozen=True, slots=True)
class Written:
    """A write that took place, the revision it replaced (0: it made the key) and the one it made."""

    index: int
    term: int
    replaced: int
    revision: int
    value: Object


@dataclass(frozen=True, slots=True)
class Records:
    """`owners` are the pod's controllers, the nearest first. `begins` is when the oldest record of the audit was made, None without any."""

    pod: Object
    owners: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    audit: tuple[Object, ...] = ()
    writes: tuple[Write, ...] = ()
    begins: float | None = None
    audit_trouble: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """`time` is in seconds since the epoch."""

    time: float
    name: str
    by: str
    what: str
    details: Object = field(default_factory=dict)


def etcd_key(obj: Object) -> str:
    """Where the API server keeps it."""
    kind = str(obj["kind"]).lower()
    return f"/registry/{kind}s/{meta.namespace(obj)}/{meta.name(obj)}"


def took_place(writes: Iterable[Write], obj: Object) -> list[Written]:
    """The writes of this very object that took place, in order.

    Each names the revision it replaces. Of several that name the same one the first in the log was done and the others were not; and what a write made is what
    the next names.
    """
    key, uid = etcd_key(obj), meta.uid(obj)
    now = int(meta.resource_version(obj))
    done: dict[int, Write] = {}
    for write in sorted(writes, key=lambda write: write.index):
        if write.key == key and meta.uid(write.value) == uid and write.expected < now:  # what came after the object was read is not its story
            done.setdefault(write.expected, write)
    made = [*list(done)[1:], now]
    return [Written(write.index, write.term, write.expected, revision, write.value) for write, revision in zip(done.values(), made, strict=False)]


def _creating(written: Sequence[Written]) -> Written | None:
    return next((one for one in written if one.replaced == 0), None)


def tell(records: Records) -> list[Step]:
    """Every step there is a record of, in order. Raises MissingRecords when there is none of the pod's creation."""
    pod = records.pod
    made = _creation(records, pod)
    if made is None:
        raise MissingRecords(_why_missing(records))
    steps = _owners(records, _received(made))
    written = took_place(records.writes, pod)
    on_the_node = list(_on_the_node(records, made, written))
    # An effect is not before its cause: a watcher may act upon a write before the answer to the one who wrote it is complete.
    scheduling = list(_scheduling(records, made, written, _first(on_the_node)))
    steps += _request(made, pod, _creating(written), _first(scheduling))
    steps += [*scheduling, *on_the_node]
    return sorted(steps, key=lambda step: step.time)  # stable: what is of the same moment stays in the order of the picture


def _first(steps: Sequence[Step]) -> float:
    return min((step.time for step in steps), default=float("inf"))


def _time(text: str) -> float:
    return timestamps.parse_time(text)


def _received(event: Object) -> float:
    return _time(event["requestReceivedTimestamp"])


def _completed(event: Object) -> float:
    return _time(event["stageTimestamp"])


def _took(event: Object, part: str) -> float:
    text = (event.get("annotations") or {}).get(LATENCY + part)
    return parse_duration(text) if text else 0.0


def _user(event: Object) -> str:
    return str((event.get("impersonatedUser") or event["user"]).get("username", ""))


def _is_about(event: Object, resource: str, namespace: str, name: str, subresource: str = "") -> bool:
    about = event.get("objectRef") or {}
    found = about.get("resource"), about.get("namespace", ""), about.get("name"), about.get("subresource", "")
    return found == (resource, namespace, name, subresource)


def _succeeded(event: Object) -> bool:
    return (
        event["stage"] == COMPLETE and 200 <= int((event.get("responseStatus") or {}).get("code", 0)) < 300 and "dryRun=" not in event["requestURI"]
    )


def _creation(records: Records, obj: Object) -> Object | None:
    """The request that made the object: the last that did, since a name may be used again."""
    resource = str(obj["kind"]).lower() + "s"
    # An apply of what does not exist is a patch that creates.
    found = [
        event
        for event in records.audit
        if _succeeded(event)
        and event["verb"] in ("create", "patch")
        and int(event["responseStatus"]["code"]) == 201
        and _is_about(event, resource, meta.namespace(obj), meta.name(obj))
    ]
    return max(found, key=_received, default=None)


def _why_missing(records: Records) -> str:
    pod = records.pod
    what = f"no audit record of the creation of pod/{meta.name(pod)} in namespace {meta.namespace(pod)}"
    if records.audit_trouble:
        return f"{what}: {records.audit_trouble}"
    if records.begins is None:
        return f"{what}: the audit log is empty"
    created = meta.creation_timestamp(pod)
    begins = timestamps.format_time(records.begins)
    if _time(created) < records.begins:
        return f"{what}: it was created at {created}, and the audit log begins at {begins}"
    return f"{what}: the audit policy does not record such requests"


def _place(written: Written | None) -> str:
    """Where in etcd."""
    if written is None:
        return "etcd's log has let go of it"
    return f"index {written.index}, revision {written.revision}"


def _details(written: Written | None, **more: Any) -> Object:
    place = {"index": written.index, "term": written.term, "revision": written.revision} if written is not None else {}
    return {**place, **more}


def _owners(records: Records, seen: float) -> list[Step]:
    """What made what, the farthest owner first; each is there before what it owns is asked for."""
    steps: list[Step] = []
    for owner in records.owners:
        made = _creation(records, owner)
        if made is None:
            continue
        kind, name = str(owner["kind"]).lower(), meta.name(owner)
        written = _creating(took_place(records.writes, owner))
        details = _details(written, auditID=made["auditID"])
        steps.append(Step(min(_completed(made), seen), f"{kind} written", _user(made), f"{kind}/{name}: {_place(written)}", details))
        seen = min(seen, _received(made))
    return steps[::-1]


def _request(made: Object, pod: Object, written: Written | None, seen: float) -> Iterator[Step]:
    user, annotations = made["user"], made.get("annotations") or {}
    received = _received(made)
    completed = max(received, min(_completed(made), seen))
    authenticated = received + _took(made, "authentication")
    authorized = authenticated + _took(made, "authorization")
    admitted = min(completed, max(authorized, _completed(made) - _took(made, "etcd")))
    name = str(user.get("username", ""))
    address = ", ".join(made.get("sourceIPs") or ())
    agent = str(made.get("userAgent", "")).partition(" ")[0]
    audit_id = {"auditID": made["auditID"]}
    method = "PATCH" if made["verb"] == "patch" else "POST"
    yield Step(received, "asked for", name, f"{method} {made['requestURI'].partition('?')[0]} by {agent} from {address}", audit_id)
    groups = ", ".join(user.get("groups") or ())
    yield Step(authenticated, "authenticated", "kube-apiserver", f"{_credential(user)}; groups {groups}")
    if "impersonatedUser" in made:
        yield Step(authenticated, "impersonating", name, f"acts as {_user(made)}")
    reason = annotations.get(REASON) or _unsaid_reason(user)
    yield Step(
        authorized, "authorized", "kube-apiserver", f"{annotations.get(DECISION, 'allow')}{': ' if reason else ''}{reason}", {"reason": reason}
    )
    yield Step(admitted, "admitted", "kube-apiserver", "; ".join(admission_marks(written.value if written is not None else pod)) or "unchanged")
    yield Step(completed, "written", "etcd", f"{etcd_key(pod)}: {_place(written)}", _details(written, key=etcd_key(pod)))


def _unsaid_reason(user: Object) -> str:
    """Only RBAC gives reasons."""
    groups = user.get("groups") or ()
    if "system:masters" in groups:
        return "system:masters may do everything"
    return "by the Node authorizer" if "system:nodes" in groups else ""


def _credential(user: Object) -> str:
    credential = next(iter((user.get("extra") or {}).get(CREDENTIAL) or ()), "")
    if credential.startswith("X509SHA256="):
        return f"client certificate of {user.get('username')}"
    if credential.startswith("JTI="):
        return f"service account token of {user.get('username')}"
    return f"as {user.get('username')}"


def admission_marks(pod: Object) -> list[str]:
    """What admission has left in a pod that its author did not write."""
    spec = pod.get("spec") or {}
    marks = []
    if spec.get("serviceAccountName"):
        volume = next((v["name"] for v in spec.get("volumes") or () if v["name"].startswith("kube-api-access-")), "")
        marks.append(f"ServiceAccount: {spec['serviceAccountName']}" + (f", volume {volume}" if volume else ""))
    if "priority" in spec:
        marks.append(f"Priority: {spec['priority']}")
    seconds = {t.get("tolerationSeconds") for t in spec.get("tolerations") or () if str(t.get("key", "")).startswith("node.kubernetes.io/")}
    if seconds - {None}:
        marks.append(f"DefaultTolerationSeconds: {', '.join(f'{s}s' for s in sorted(seconds - {None}))}")
    return marks


def _watch(records: Records, user: str, until: float) -> str:
    """The watch by which `user` hears of pods, as the audit knows it."""
    opened = [
        _completed(event)
        for event in records.audit
        if event["verb"] == "watch"
        and event["stage"] == STARTED
        and _user(event) == user
        and (event.get("objectRef") or {}).get("resource") == "pods"
        and _completed(event) <= until
    ]
    return f"its watch of pods, open since {timestamps.format_time(max(opened))}" if opened else "its watch of pods"


def _scheduling(records: Records, made: Object, written: Sequence[Written], seen: float) -> Iterator[Step]:
    pod = records.pod
    for event in _events(records, "FailedScheduling"):
        yield Step(event_time(event), "not scheduled", _reporter(event), str(event.get("message", "")))
    if (made_with := _creating(written)) is not None and (made_with.value.get("spec") or {}).get("nodeName"):
        return  # a static pod or a pod whose author named the node: there is nothing to schedule
    bindings = [
        event
        for event in records.audit
        if _succeeded(event) and event["verb"] == "create" and _is_about(event, "pods", meta.namespace(pod), meta.name(pod), "binding")
    ]
    bindings = [event for event in bindings if _received(event) >= _received(made)]
    if not bindings:
        return
    binding = min(bindings, key=_received)
    who = _user(binding)
    what = f"by {_watch(records, who, _received(binding))}; asks to bind it"
    yield Step(_received(binding), "noticed by the scheduler", who, what, {"auditID": binding["auditID"]})
    bound = next((one for one in written if (one.value.get("spec") or {}).get("nodeName")), None)
    node = (pod.get("spec") or {}).get("nodeName", "")
    yield Step(max(_received(binding), min(_completed(binding), seen)), "bound", who, f"to {node}: {_place(bound)}", _details(bound, node=node))


def _on_the_node(records: Records, made: Object, written: Sequence[Written]) -> Iterator[Step]:
    pod = records.pod
    node = (pod.get("spec") or {}).get("nodeName")
    if not node:
        return
    kubelet = NODE_PREFIX + node
    events = [event for event in _events(records) if (event.get("reportingComponent") or (event.get("source") or {}).get("component")) == "kubelet"]
    patches = [
        event
        for event in records.audit
        if _succeeded(event)
        and event["verb"] in ("patch", "update")
        and _user(event) == kubelet
        and _is_about(event, "pods", meta.namespace(pod), meta.name(pod), "status")
        and _received(event) >= _received(made)
    ]
    patches.sort(key=_received)
    first = min([*(event_time(event) for event in events), *(_received(event) for event in patches)], default=None)
    acknowledged = (pod.get("status") or {}).get("startTime")
    if first is not None:
        since = f"; startTime {acknowledged}" if acknowledged else ""
        yield Step(first, "noticed by the kubelet", kubelet, f"by {_watch(records, kubelet, first)}{since}")
    for event in events:
        name = STEPS_OF_EVENTS.get(str(event["reason"]), str(event["reason"]))
        yield Step(event_time(event), name, f"kubelet on {node}", str(event.get("message", "")), {"reason": event["reason"]})
    started = max((event_time(event) for event in events if event["reason"] == "Started"), default=None)
    if started is None:
        return
    report = next((event for event in patches if _received(event) >= started), None)
    if report is None:
        return
    running = next((one for one in written if _all_running(one.value)), None)
    status = running.value["status"] if running is not None else pod.get("status") or {}
    what = f"phase {status.get('phase')}, address {status.get('podIP')}: {_place(running)}"
    yield Step(_completed(report), "reported", kubelet, what, _details(running, auditID=report["auditID"]))
    ready = next((one for one in written if meta.is_condition_true(one.value, "Ready")), None)
    if ready is not None and (running is None or ready.index != running.index):
        later = next((event for event in patches if _completed(event) > _completed(report)), None)
        if later is not None:
            yield Step(_completed(later), "ready", kubelet, f"condition Ready: {_place(ready)}", _details(ready))


def _all_running(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return bool(statuses) and all("running" in (one.get("state") or {}) or "terminated" in (one.get("state") or {}) for one in statuses)


def _events(records: Records, *reasons: str) -> list[Object]:
    """The pod's own events, in order."""
    mine = [event for event in records.events if (event.get("involvedObject") or {}).get("uid") == meta.uid(records.pod)]
    return sorted((event for event in mine if not reasons or event["reason"] in reasons), key=event_time)


def _reporter(event: Object) -> str:
    return str(event.get("reportingComponent") or (event.get("source") or {}).get("component") or "")


def event_time(event: Object) -> float:
    """When it happened first: to the nanosecond where the event's name says it, as client-go names them."""
    _, dot, suffix = meta.name(event).rpartition(".")
    first = event.get("eventTime") or event.get("firstTimestamp") or meta.creation_timestamp(event)
    stamp = _time(first)
    if dot:
        try:
            named = int(suffix, 16) / 1e9
        except ValueError:
            return stamp
        if abs(named - stamp) < 2:
            return named
    return stamp


def render(pod: Object, steps: Sequence[Step]) -> str:
    """The table that is printed: time, milliseconds since the request, step, who, what."""
    zero = next(step.time for step in steps if step.name == "asked for")
    rows = [
        ("TIME", "MS", "STEP", "BY", "WHAT"),
        *((timestamps.format_micro_time(s.time)[11:-1], f"{(s.time - zero) * 1000:+.1f}", s.name, s.by, s.what) for s in steps),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"pod/{meta.name(pod)} in namespace {meta.namespace(pod)}, {timestamps.format_time(zero)[:10]} (UTC)", ""]
    for time, ms, name, by, what in rows:
        lines.append(f"{time.ljust(widths[0])}   {ms.rjust(widths[1])}   {name.ljust(widths[2])}   {by.ljust(widths[3])}   {what}".rstrip())
    return "\n".join(lines)


def as_json(pod: Object, steps: Sequence[Step]) -> Object:
    shown = [
        {
            "time": timestamps.format_micro_time(step.time),
            "step": step.name,
            "by": step.by,
            "what": step.what,
            **({"details": step.details} if step.details else {}),
        }
        for step in steps
    ]
    return {"namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod), "steps": shown}
