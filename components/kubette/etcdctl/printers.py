"""Pure: answers as text: `-w simple|json|table|fields|protobuf`. One function a format and kind of answer, named like upstream's printers.

A kind that a format cannot show is an error, as upstream ("table not supported as output format").
"""

import base64
import json
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.etcd_api import auth_pb2, kv_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang
from kubette.etcdctl.errors import CommandError, Exit

FORMATS = ("simple", "json", "table", "fields", "protobuf")
OPEN_END = b"\0"  # a range_end: everything from the key on
_NEWER_THAN_CLIENT = frozenset({"storageVersion", "dbSizeQuota", "downgradeInfo", "hash_revision"})  # fields that a 3.4 client does not know


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to show. `more` is what the message itself does not say (a role's name, an endpoint)."""

    kind: str
    message: Any
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Style:
    """How to show it."""

    format: str = "simple"
    hex: bool = False
    value_only: bool = False


def render(answer: Answer, style: Style) -> bytes:
    """The bytes for standard output. Raises CommandError when the format cannot show this kind."""
    if style.format == "json":
        return _json(answer)
    if style.format == "protobuf":
        return _protobuf(answer)
    if style.format == "table":
        if answer.kind not in _TABLES:
            raise CommandError("table not supported as output format", Exit.BAD_FEATURE)
        header, rows = _TABLES[answer.kind](answer)
        return golang.table(header, rows).encode() + b"\n"
    if style.format == "fields":
        fields = _FIELDS.get(answer.kind)
        if fields is None:
            raise CommandError("fields not supported as output format", Exit.BAD_FEATURE)
        return _lines(fields(answer))
    return _lines(_SIMPLE[answer.kind](answer, style) if answer.kind in _SIMPLE else [", ".join(row) for row in _TABLES[answer.kind](answer)[1]])


def _lines(lines: Sequence[str | bytes]) -> bytes:
    return b"".join((line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line) + b"\n" for line in lines)


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys with this prefix."""
    for at in reversed(range(len(prefix))):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return OPEN_END


# Tables: also the simple format of the same answers


def _members(answer: Answer) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            str(member.isLearner).lower(),
        ]
        for member in answer.message.members
    ]
    return ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"], rows


def _health_table(answer: Answer) -> tuple[list[str], list[list[str]]]:
    rows = [[each["endpoint"], str(each["health"]).lower(), each["took"], each.get("error", "")] for each in answer.message]
    return ["endpoint", "health", "took", "error"], rows


def _status_table(answer: Answer) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            endpoint,
            f"{status.header.member_id:x}",
            status.version,
            golang.humanize_bytes(status.dbSize),
            str(status.leader == status.header.member_id).lower(),
            str(status.isLearner).lower(),
            str(status.raftTerm),
            str(status.raftIndex),
            str(status.raftAppliedIndex),
            ", ".join(status.errors),
        ]
        for endpoint, status in answer.message
    ]
    header = ["endpoint", "ID", "version", "db size", "is leader", "is learner", "raft term", "raft index", "raft applied index", "errors"]
    return header, rows


def _hash_table(answer: Answer) -> tuple[list[str], list[list[str]]]:
    return ["endpoint", "hash"], [[endpoint, str(each.hash)] for endpoint, each in answer.message]


def _db_status_table(answer: Answer) -> tuple[list[str], list[list[str]]]:
    status = answer.message
    row = [f"{status.hash:x}", str(status.revision), str(status.total_keys), golang.humanize_bytes(status.total_bytes)]
    return ["hash", "revision", "total keys", "total size"], [row]


def _db_hash_table(answer: Answer) -> tuple[list[str], list[list[str]]]:
    found = answer.message
    return ["hash", "hash revision", "compact revision"], [[str(found.hash), str(found.revision), str(found.compact_revision)]]


_TABLES: dict[str, Callable[[Answer], tuple[list[str], list[list[str]]]]] = {
    "MemberList": _members,
    "EndpointHealth": _health_table,
    "EndpointStatus": _status_table,
    "EndpointHashKV": _hash_table,
    "DBStatus": _db_status_table,
    "DBHashKV": _db_hash_table,
}


# simple


def _hexed(data: bytes) -> bytes:
    return "".join(f"\\x{byte:02x}" for byte in data).encode()


def _pair(pair: kv_pb2.KeyValue, style: Style) -> list[str | bytes]:
    key, value = (_hexed(pair.key), _hexed(pair.value)) if style.hex else (pair.key, pair.value)
    return [value] if style.value_only else [key, value]


def _pairs(pairs: Any, style: Style) -> list[str | bytes]:
    return [line for pair in pairs for line in _pair(pair, style)]


def _simple_txn(answer: Answer, style: Style) -> list[str | bytes]:
    lines: list[str | bytes] = ["SUCCESS" if answer.message.succeeded else "FAILURE"]
    for each in answer.message.responses:
        kind = each.WhichOneof("response")
        lines.append("")
        if kind in _TXN_KINDS:
            lines += _SIMPLE[_TXN_KINDS[kind]](Answer("", getattr(each, kind)), style)
        else:
            lines.append(f"unexpected response {each}")
    return lines


_TXN_KINDS = {"response_range": "Get", "response_put": "Put", "response_delete_range": "Del"}


def _simple_watch(answer: Answer, style: Style) -> list[str | bytes]:
    lines: list[str | bytes] = []
    for event in answer.message.events:
        lines.append(_event_name(event.type))
        if event.HasField("prev_kv"):
            lines += _pair(event.prev_kv, style)
        lines += _pair(event.kv, style)
    return lines


def _event_name(kind: int) -> str:
    return "DELETE" if kind == kv_pb2.Event.DELETE else "PUT"


def lease_id(value: int) -> str:
    return f"{value:016x}" if value >= 0 else f"-{-value:015x}"


def _simple_time_to_live(answer: Answer, style: Style) -> list[str | bytes]:
    lease = answer.message
    if lease.grantedTTL == 0 and lease.TTL == -1:
        return [f"lease {lease_id(lease.ID)} already expired"]
    text = f"lease {lease_id(lease.ID)} granted with TTL({lease.grantedTTL}s), remaining({lease.TTL}s)".encode()
    if answer.more.get("keys"):
        text += b", attached keys([" + b" ".join(lease.keys) + b"])"
    return [text]


def _simple_alarm(answer: Answer, style: Style) -> list[str | bytes]:
    # gogo's text of a message: fields that are zero are left out, a space behind each.
    lines: list[str | bytes] = []
    for each in answer.message.alarms:
        member = f"memberID:{each.memberID} " if each.memberID else ""
        lines.append(member + (f"alarm:{pb.AlarmType.Name(each.alarm)} " if each.alarm else ""))
    return lines


def _simple_role(answer: Answer, style: Style) -> list[str | bytes]:
    lines: list[str | bytes] = [f"Role {answer.more['role']}"]
    for title, kinds in (
        ("KV Read:", (auth_pb2.Permission.READ, auth_pb2.Permission.READWRITE)),
        ("KV Write:", (auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE)),
    ):
        lines.append(title)
        lines += [_permission(each) for each in answer.message.perm if each.permType in kinds]
    return lines


def _permission(permission: auth_pb2.Permission) -> bytes:
    key, end = permission.key, permission.range_end
    if not end:
        return b"\t" + key
    text = b"\t[" + key + b", <open ended>" if end == OPEN_END else b"\t[" + key + b", " + end + b")"
    return text + (b" (prefix " + key + b")" if prefix_end(key) == end else b"")


def _simple_revoked(answer: Answer, style: Style) -> list[str | bytes]:
    role, key, end = answer.more["role"], answer.more["key"], answer.more["range_end"]
    if not end:
        return [f"Permission of key {key} is revoked from role {role}"]
    if end == "\0":
        return [f"Permission of range [{key}, <open ended> is revoked from role {role}"]
    return [f"Permission of range [{key}, {end}) is revoked from role {role}"]


def _member_changed(text: str) -> Callable[[Answer, Style], list[str | bytes]]:
    def lines(answer: Answer, style: Style) -> list[str | bytes]:
        return [f"Member {answer.more['id']:16x} {text} cluster {answer.message.header.cluster_id:16x}"]

    return lines


def _said(text: str) -> Callable[[Answer, Style], list[str | bytes]]:
    return lambda answer, style: [text.format(**answer.more)]


_SIMPLE: dict[str, Callable[[Answer, Style], list[str | bytes]]] = {
    "Del": lambda answer, style: [str(answer.message.deleted), *_pairs(answer.message.prev_kvs, style)],
    "Get": lambda answer, style: _pairs(answer.message.kvs, style),
    "Put": lambda answer, style: ["OK", *(_pair(answer.message.prev_kv, style) if answer.message.HasField("prev_kv") else [])],
    "Txn": _simple_txn,
    "Watch": _simple_watch,
    "Grant": lambda answer, style: [f"lease {lease_id(answer.message.ID)} granted with TTL({answer.message.TTL}s)"],
    "Revoke": lambda answer, style: [f"lease {lease_id(answer.more['id'])} revoked"],
    "KeepAlive": lambda answer, style: [f"lease {lease_id(answer.message.ID)} keepalived with TTL({answer.message.TTL})"],
    "TimeToLive": _simple_time_to_live,
    "Leases": lambda answer, style: [f"found {len(answer.message.leases)} leases", *(lease_id(each.ID) for each in answer.message.leases)],
    "Alarm": _simple_alarm,
    "MemberAdd": _member_changed("added to"),
    "MemberRemove": _member_changed("removed from"),
    "MemberUpdate": _member_changed("updated in"),
    "MemberPromote": _member_changed("promoted in"),
    "MoveLeader": lambda answer, style: [f"Leadership transferred from {answer.more['leader']:x} to {answer.more['target']:x}"],
    "RoleAdd": _said("Role {role} created"),
    "RoleGet": _simple_role,
    "RoleList": lambda answer, style: list(answer.message.roles),
    "RoleDelete": _said("Role {role} deleted"),
    "RoleGrantPermission": _said("Role {role} updated"),
    "RoleRevokePermission": _simple_revoked,
    "UserAdd": _said("User {user} created"),
    "UserGet": lambda answer, style: [f"User: {answer.more['user']}", "Roles:" + "".join(f" {role}" for role in answer.message.roles)],
    "UserList": lambda answer, style: list(answer.message.users),
    "UserChangePassword": _said("Password updated"),
    "UserGrantRole": _said("Role {role} is granted to user {user}"),
    "UserRevokeRole": _said("Role {role} is revoked from user {user}"),
    "UserDelete": _said("User {user} deleted"),
}


# fields


def _header_fields(header: pb.ResponseHeader) -> list[str | bytes]:
    return [
        f'"ClusterID" : {header.cluster_id}',
        f'"MemberID" : {header.member_id}',
        f'"Revision" : {header.revision}',
        f'"RaftTerm" : {header.raft_term}',
    ]


def _pair_fields(prefix: str, pair: kv_pb2.KeyValue) -> list[str | bytes]:
    return [
        f'"{prefix}Key" : {golang.quote(pair.key)}',
        f'"{prefix}CreateRevision" : {pair.create_revision}',
        f'"{prefix}ModRevision" : {pair.mod_revision}',
        f'"{prefix}Version" : {pair.version}',
        f'"{prefix}Value" : {golang.quote(pair.value)}',
        f'"{prefix}Lease" : {pair.lease}',
    ]


def _get_fields(answer: Answer) -> list[str | bytes]:
    found = answer.message
    pairs = [line for pair in found.kvs for line in _pair_fields("", pair)]
    return [*_header_fields(found.header), *pairs, f'"More" : {str(found.more).lower()}', f'"Count" : {found.count}']


def _put_fields(answer: Answer) -> list[str | bytes]:
    previous = _pair_fields("Prev", answer.message.prev_kv) if answer.message.HasField("prev_kv") else []
    return [*_header_fields(answer.message.header), *previous]


def _del_fields(answer: Answer) -> list[str | bytes]:
    previous = [line for pair in answer.message.prev_kvs for line in _pair_fields("Prev", pair)]
    return [*_header_fields(answer.message.header), f'"Deleted" : {answer.message.deleted}', *previous]


def _txn_fields(answer: Answer) -> list[str | bytes]:
    lines = [*_header_fields(answer.message.header), f'"Succeeded" : {str(answer.message.succeeded).lower()}']
    for each in answer.message.responses:
        kind = each.WhichOneof("response")
        lines += _FIELDS[_TXN_KINDS[kind]](Answer("", getattr(each, kind))) if kind in _TXN_KINDS else [f'"Unknown" : {golang.quote(str(each))}']
    return lines


def _watch_fields(answer: Answer) -> list[str | bytes]:
    lines = _header_fields(answer.message.header)
    for event in answer.message.events:
        lines.append(f'"Type" : {_event_name(event.type)}')
        if event.HasField("prev_kv"):
            lines += _pair_fields("Prev", event.prev_kv)
        lines += _pair_fields("", event.kv)
    return lines


def _lease_fields(answer: Answer) -> list[str | bytes]:
    return [*_header_fields(answer.message.header), f'"ID" : {answer.message.ID}', f'"TTL" : {answer.message.TTL}']


def _time_to_live_fields(answer: Answer) -> list[str | bytes]:
    keys = [f'"Key" : {golang.quote(key)}' for key in answer.message.keys]
    return [*_lease_fields(answer), f'"GrantedTTL" : {answer.message.grantedTTL}', *keys]


def _member_fields(answer: Answer) -> list[str | bytes]:
    lines = _header_fields(answer.message.header)
    for member in answer.message.members:
        lines += [f'"ID" : {member.ID}', f'"Name" : {golang.quote(member.name)}']
        lines += [f'"PeerURL" : {golang.quote(url)}' for url in member.peerURLs]
        lines += [f'"ClientURL" : {golang.quote(url)}' for url in member.clientURLs]
        lines += [f'"IsLearner" : {str(member.isLearner).lower()}', ""]
    return lines


def _health_fields(answer: Answer) -> list[str | bytes]:
    lines: list[str | bytes] = []
    for each in answer.message:
        lines += [f'"Endpoint" : {golang.quote(each["endpoint"])}', f'"Health" : {str(each["health"]).lower()}']
        lines += [f'"Took" : {each["took"]}', f'"Error" : {each.get("error", "")}', ""]
    return lines


def _status_fields(answer: Answer) -> list[str | bytes]:
    lines: list[str | bytes] = []
    for endpoint, status in answer.message:
        lines += [*_header_fields(status.header), f'"Version" : {golang.quote(status.version)}', f'"DBSize" : {status.dbSize}']
        lines += [f'"Leader" : {status.leader}', f'"IsLearner" : {str(status.isLearner).lower()}', f'"RaftIndex" : {status.raftIndex}']
        lines += [f'"RaftTerm" : {status.raftTerm}', f'"RaftAppliedIndex" : {status.raftAppliedIndex}']
        lines += [f'"Errors" : [{" ".join(status.errors)}]', f'"Endpoint" : {golang.quote(endpoint)}', ""]
    return lines


def _hash_fields(answer: Answer) -> list[str | bytes]:
    lines: list[str | bytes] = []
    for endpoint, each in answer.message:
        lines += [*_header_fields(each.header), f'"Endpoint" : {golang.quote(endpoint)}', f'"Hash" : {each.hash}', ""]
    return lines


def _alarm_fields(answer: Answer) -> list[str | bytes]:
    # Upstream 3.4 trips over a missing header here; zeros say the same.
    lines = _header_fields(answer.message.header)
    for each in answer.message.alarms:
        lines += [f'"MemberID" : {each.memberID}', f'"AlarmType" : {pb.AlarmType.Name(each.alarm)}', ""]
    return lines


def _role_fields(answer: Answer) -> list[str | bytes]:
    lines = _header_fields(answer.message.header)
    for each in answer.message.perm:
        lines += [f'"PermType" :  {auth_pb2.Permission.Type.Name(each.permType)}']
        lines += [f'"Key" : {golang.quote(each.key)}', f'"RangeEnd" : {golang.quote(each.range_end)}']
    return lines


def _only_header(answer: Answer) -> list[str | bytes]:
    return _header_fields(answer.message.header)


def _db_status_fields(answer: Answer) -> list[str | bytes]:
    status = answer.message
    return [f'"Hash" : {status.hash}', f'"Revision" : {status.revision}', f'"Keys" : {status.total_keys}', f'"Size" : {status.total_bytes}']


def _db_hash_fields(answer: Answer) -> list[str | bytes]:
    found = answer.message
    return [f'"Hash" : {found.hash}', f'"Hash revision" : {found.revision}', f'"Compact revision" : {found.compact_revision}']


_FIELDS: dict[str, Callable[[Answer], list[str | bytes]]] = {
    "Del": _del_fields,
    "Get": _get_fields,
    "Put": _put_fields,
    "Txn": _txn_fields,
    "Watch": _watch_fields,
    "Grant": _lease_fields,
    "Revoke": _only_header,
    "KeepAlive": _lease_fields,
    "TimeToLive": _time_to_live_fields,
    "Leases": lambda answer: [*_only_header(answer), *(f'"ID" : {each.ID}' for each in answer.message.leases)],
    "MemberList": _member_fields,
    "EndpointHealth": _health_fields,
    "EndpointStatus": _status_fields,
    "EndpointHashKV": _hash_fields,
    "Alarm": _alarm_fields,
    "DBStatus": _db_status_fields,
    "DBHashKV": _db_hash_fields,
    "RoleGet": _role_fields,
    "RoleList": lambda answer: [*_only_header(answer), '"Roles" :' + "".join(f" {golang.quote(role)}" for role in answer.message.roles)],
    **dict.fromkeys(("RoleAdd", "RoleDelete", "RoleGrantPermission", "RoleRevokePermission"), _only_header),
    **dict.fromkeys(("UserAdd", "UserChangePassword", "UserGrantRole", "UserRevokeRole", "UserDelete"), _only_header),
}


# json


def _json(answer: Answer) -> bytes:
    document = _JSON[answer.kind](answer) if answer.kind in _JSON else message_json(answer.message)
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode() + b"\n"


def message_json(message: Any) -> dict[str, Any]:
    """As Go's encoding/json writes a generated message: zero values are left out, bytes are base64, enums numbers, a oneof wrapped."""
    document: dict[str, Any] = {}
    for each in message.DESCRIPTOR.fields:
        if each.name in _NEWER_THAN_CLIENT:
            continue
        value = getattr(message, each.name)
        if each.containing_oneof is not None:
            if message.HasField(each.name):
                wrapper = each.containing_oneof.name.capitalize()
                document[wrapper] = {string.capwords(each.name, "_").replace("_", ""): message_json(value)}
        elif each.is_repeated:
            if len(value):
                document[each.name] = [_plain(item) for item in value]
        elif each.message_type is not None:
            if message.HasField(each.name):
                document[each.name] = message_json(value)
        elif value:
            document[each.name] = _plain(value)
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return message_json(value) if hasattr(value, "DESCRIPTOR") else value


def _with_header(**members: Callable[[Any], Any]) -> Callable[[Answer], dict[str, Any]]:
    """The client's own lease answers: the header's fields beside the others, which are never left out."""
    return lambda answer: {
        **message_json(answer.message.header),
        **{name.replace("_", "-"): read(answer.message) for name, read in members.items()},
    }


def _watch_json(answer: Answer) -> dict[str, Any]:
    response = answer.message
    return {
        "Header": message_json(response.header),
        "Events": [message_json(event) for event in response.events],
        "CompactRevision": response.compact_revision,
        "Canceled": response.canceled,
        "Created": response.created,
    }


_JSON: dict[str, Callable[[Answer], Any]] = {
    "Watch": _watch_json,
    "Grant": _with_header(ID=lambda lease: lease.ID, TTL=lambda lease: lease.TTL, Error=lambda lease: lease.error),
    "KeepAlive": _with_header(ID=lambda lease: lease.ID, TTL=lambda lease: lease.TTL),
    "TimeToLive": _with_header(
        id=lambda lease: lease.ID,
        ttl=lambda lease: lease.TTL,
        granted_ttl=lambda lease: lease.grantedTTL,
        keys=lambda lease: [_plain(key) for key in lease.keys] or None,
    ),
    "Leases": _with_header(leases=lambda found: [{"id": each.ID} for each in found.leases]),
    "EndpointHealth": lambda answer: answer.message,
    "EndpointStatus": lambda answer: [{"Endpoint": endpoint, "Status": message_json(status)} for endpoint, status in answer.message],
    "EndpointHashKV": lambda answer: [{"Endpoint": endpoint, "HashKV": message_json(each)} for endpoint, each in answer.message],
    "DBStatus": lambda answer: {
        "hash": answer.message.hash,
        "revision": answer.message.revision,
        "totalKey": answer.message.total_keys,
        "totalSize": answer.message.total_bytes,
    },
    "DBHashKV": lambda answer: {
        "hash": answer.message.hash,
        "hashRevision": answer.message.revision,
        "compactRevision": answer.message.compact_revision,
    },
}


# protobuf


def _protobuf(answer: Answer) -> bytes:
    if answer.kind in ("EndpointHealth", "EndpointStatus", "EndpointHashKV", "DBStatus", "DBHashKV"):
        raise CommandError("protobuf not supported as output format", Exit.BAD_FEATURE)
    if answer.kind in ("Grant", "KeepAlive", "TimeToLive", "Leases"):
        # Upstream's client types embed the header, whose Marshal is what gets called.
        return bytes(answer.message.header.SerializeToString())
    if answer.kind == "Watch":
        response = answer.message
        fields = {"header": response.header, "events": response.events, "compact_revision": response.compact_revision}
        return bytes(pb.WatchResponse(**fields, canceled=response.canceled, created=response.created).SerializeToString())
    return bytes(answer.message.SerializeToString())
