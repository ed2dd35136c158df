"""`lease grant|revoke|timetolive|list|keep-alive`."""

import time
from collections.abc import Iterator

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang, printers
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.connection import Connection
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, Exit, bad_args


def _lease_id(text: str) -> int:
    try:
        return golang.parse_int(text, 16)
    except ValueError as error:
        raise bad_args(f"bad lease ID arg ({error}), expecting ID in Hex") from None


def _grant(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("lease grant command needs TTL argument")
    try:
        ttl = golang.parse_int(context.args[0])
    except ValueError as error:
        raise bad_args(f"bad TTL ({error})") from None
    try:
        answer = context.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl), pb.LeaseGrantResponse)
    except CommandError as error:
        raise CommandError(f"failed to grant lease ({error})") from error
    context.show("Grant", answer)


def _revoke(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("lease revoke command needs 1 argument")
    lease = _lease_id(context.args[0])
    try:
        answer = context.call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease), pb.LeaseRevokeResponse)
    except CommandError as error:
        raise CommandError(f"failed to revoke lease ({error})") from error
    context.show("Revoke", answer, id=lease)


def _time_to_live(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("lease timetolive command needs lease ID as argument")
    keys = context.options.keys
    request = pb.LeaseTimeToLiveRequest(ID=_lease_id(context.args[0]), keys=keys)
    context.show("TimeToLive", _or_bad_connection(context, "Lease/LeaseTimeToLive", request, pb.LeaseTimeToLiveResponse), keys=keys)


def _list(context: Context) -> None:
    context.show("Leases", _or_bad_connection(context, "Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse))


def _or_bad_connection(context: Context, method: str, request: object, response: type) -> object:
    try:
        return context.call(method, request, response)
    except CommandError as error:
        raise CommandError(str(error), Exit.BAD_CONNECTION) from error


def keep_alive(connection: Connection, lease: int, *, once: bool = False) -> Iterator[pb.LeaseKeepAliveResponse]:
    """Renew a lease whenever a third of its time is over; ends when the lease is gone."""
    pause_s = 0.0

    def requests() -> Iterator[pb.LeaseKeepAliveRequest]:
        while True:
            yield pb.LeaseKeepAliveRequest(ID=lease)
            if once:
                return
            time.sleep(max(0.5, pause_s))

    for answer in connection.stream("Lease/LeaseKeepAlive", requests(), pb.LeaseKeepAliveResponse):
        if answer.TTL <= 0:
            return
        pause_s = answer.TTL / 3
        yield answer


def _keep_alive(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("lease keep-alive command needs lease ID as argument")
    lease = _lease_id(context.args[0])
    once = context.options.once
    try:
        for answer in keep_alive(context.connect(), lease, once=once):
            context.show("KeepAlive", answer)
            if once:
                return
    except CommandError as error:
        raise error if error.code == Exit.BAD_FEATURE else CommandError(str(error), Exit.BAD_CONNECTION) from error
    if once:
        raise CommandError("etcdserver: requested lease not found", Exit.BAD_CONNECTION)
    if context.style.format == "simple":
        print(f"lease {printers.lease_id(lease)} expired or revoked.")


def _time_to_live_flags(flags: FlagSet) -> None:
    flags.bool("keys", False, "Get keys attached to this lease")


def _keep_alive_flags(flags: FlagSet) -> None:
    flags.bool("once", False, "Resets the keep-alive time to its original value and exits immediately")


LEASE = Command(
    "lease <subcommand>",
    "Lease related commands",
    commands=(
        Command("grant <ttl>", "Creates leases", _grant),
        Command("revoke <leaseID>", "Revokes leases", _revoke),
        Command("timetolive <leaseID> [options]", "Get lease information", _time_to_live, _time_to_live_flags),
        Command("list", "List all active leases", _list),
        Command("keep-alive [options] <leaseID>", "Keeps leases alive (renew)", _keep_alive, _keep_alive_flags),
    ),
)
