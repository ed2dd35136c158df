"""`endpoint health|status|hashkv`, `defrag`: each endpoint asked on its own; `alarm list|disarm`."""

import concurrent.futures
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubette.component_base.flags import FlagSet, format_duration
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.connection import Connection, RpcFailure, all_endpoints
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, bad_args

_AT_ONCE = 16  # endpoints asked in parallel


def _health(context: Context) -> None:
    style = context.style
    endpoints = all_endpoints(context.settings, context.options.cluster)
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda endpoint: _health_of(Connection(context.settings).only(endpoint), endpoint), endpoints))
    found.sort(key=lambda each: float(each.pop("seconds")))  # as the answers came in
    if style.format == "simple":
        for each in found:
            if "error" in each:
                print(f"{each['endpoint']} is unhealthy: failed to commit proposal: {each['error']}", file=sys.stderr)
            else:
                print(f"{each['endpoint']} is healthy: successfully committed proposal: took = {each['took']}", file=sys.stderr)
    else:
        context.show("EndpointHealth", found)
    if any("error" in each for each in found):
        raise CommandError("unhealthy cluster")


def _health_of(connection: Connection, endpoint: str) -> dict[str, Any]:
    """A linearizable read of any key: who answers it is healthy, also when it refuses permission."""
    start = time.monotonic()
    problem = ""
    try:
        connection.call("KV/Range", pb.RangeRequest(key=b"health"), pb.RangeResponse)
    except RpcFailure as failure:
        problem = "" if failure.details == "etcdserver: permission denied" else str(failure)
    except CommandError as error:
        problem = str(error)
    took = time.monotonic() - start
    answer: dict[str, Any] = {"endpoint": endpoint, "health": not problem, "took": format_duration(took), "seconds": took}
    if problem:
        answer["error"] = problem
    return answer


def _each(context: Context, what: str, ask: Callable[[Connection, str], Any]) -> tuple[list[tuple[str, Any]], CommandError | None]:
    """The answers of all endpoints; failures are told on standard error, the last one is returned."""
    connection = context.connect()
    answers: list[tuple[str, Any]] = []
    last: CommandError | None = None
    for endpoint in all_endpoints(context.settings, context.options.cluster):
        try:
            answers.append((endpoint, ask(connection, endpoint)))
        except CommandError as error:
            last = error
            print(f"Failed to get the {what} of endpoint {endpoint} ({error})", file=sys.stderr)
    return answers, last


def _status(context: Context) -> None:
    answers, last = _each(
        context,
        "status",
        lambda connection, endpoint: connection.call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, endpoint=endpoint),
    )
    context.show("EndpointStatus", answers)
    if last is not None:
        raise CommandError("")


def _hash_kv(context: Context) -> None:
    request = pb.HashKVRequest(revision=context.options.rev)
    answers, last = _each(
        context, "hash", lambda connection, endpoint: connection.call("Maintenance/HashKV", request, pb.HashKVResponse, endpoint=endpoint)
    )
    context.show("EndpointHashKV", answers)
    if last is not None:
        raise CommandError(str(last))


def _defrag(context: Context) -> None:
    if context.options.data_dir:
        defragment_offline(context.options.data_dir)
        return
    connection = context.connect()
    failed = False
    for endpoint in all_endpoints(context.settings, context.options.cluster):
        try:
            connection.call("Maintenance/Defragment", pb.DefragmentRequest(), pb.DefragmentResponse, endpoint=endpoint)
            print(f"Finished defragmenting etcd member[{endpoint}]")
        except CommandError as error:
            failed = True
            print(f"Failed to defragment etcd member[{endpoint}] ({error})", file=sys.stderr)
    if failed:
        raise CommandError("")


def defragment_offline(data_dir: str) -> None:
    """The database of a member that does not run; waits for one that is about to end."""
    from kubette.etcd import snapshot_files

    told = False
    while True:
        try:
            snapshot_files.defragment(Path(data_dir))
            return
        except BlockingIOError:
            if not told:
                path = Path(data_dir) / "member" / "snap" / "db"
                text = f'waiting for etcd to close and release its lock on "{path}". To defrag a running etcd instance, omit --data-dir.'
                print(text, file=sys.stderr, flush=True)
            told = True
            time.sleep(0.2)
        except (snapshot_files.SnapshotFileError, OSError) as error:
            raise CommandError(f"Failed to defragment etcd data[{data_dir}] ({error})") from error


def _alarm(name: str) -> Callable[[Context], None]:
    def run(context: Context) -> None:
        if context.args:
            raise bad_args(f"alarm {name} command accepts no arguments")
        if name == "list":
            context.show("Alarm", context.call("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.GET), pb.AlarmResponse))
            return
        # Upstream's client disarms what is there, one by one, and answers all of it.
        found = context.call("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.GET), pb.AlarmResponse)
        gone = pb.AlarmResponse()
        for each in found.alarms:
            request = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=each.memberID, alarm=each.alarm)
            gone.alarms.extend(context.call("Maintenance/Alarm", request, pb.AlarmResponse).alarms)
        context.show("Alarm", gone)

    return run


def _cluster_flag(flags: FlagSet) -> None:
    flags.bool("cluster", False, "use all endpoints from the cluster member list")


def _hash_flags(flags: FlagSet) -> None:
    flags.int("rev", 0, "maximum revision to hash (default: all revisions)")


def _defrag_flags(flags: FlagSet) -> None:
    _cluster_flag(flags)
    flags.string("data-dir", "", "Optional. If present, defragments a data directory not in use by etcd.")


_STATUS_LONG = """When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors."""

ENDPOINT = Command(
    "endpoint <subcommand>",
    "Endpoint related commands",
    inherited=_cluster_flag,
    commands=(
        Command("health", "Checks the healthiness of endpoints specified in `--endpoints` flag", _health),
        Command("status", "Prints out the status of endpoints specified in `--endpoints` flag", _status, long=_STATUS_LONG),
        Command("hashkv", "Prints the KV history hash for each endpoint in --endpoints", _hash_kv, _hash_flags),
    ),
)
DEFRAG = Command("defrag", "Defragments the storage of the etcd members with given endpoints", _defrag, _defrag_flags)
ALARM = Command(
    "alarm <subcommand>",
    "Alarm related commands",
    commands=(
        Command("disarm", "Disarms all alarms", _alarm("disarm")),
        Command("list", "Lists all alarms", _alarm("list")),
    ),
)
