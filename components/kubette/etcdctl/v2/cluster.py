"""`cluster-health`, and `member list|add|remove|update`."""

import sys
import time
import urllib.parse
from typing import Any

from kubette.etcdctl.v2.client import NOT_HEALTHY, ApiError, Client, FailureError, fail, problem_with
from kubette.etcdctl.v2.command_line import Command, Flag
from kubette.etcdctl.v2.run import Run

_PAUSE_S = 10.0


def _health(run: Run) -> None:
    client = Client(run.options, sync=False)
    try:
        members = client.members()
    except ApiError as error:
        print("cluster may be unhealthy: failed to list members", flush=True)
        fail(error)
    while True:
        healthy = sum(_is_healthy(client, each) for each in members)
        print("cluster is healthy" if healthy == len(members) else "cluster is degraded" if healthy else "cluster is unavailable", flush=True)
        if not run.flags["forever"]:
            if healthy != len(members):
                raise FailureError("", NOT_HEALTHY)
            return
        print("\nnext check after 10 second...\n", flush=True)
        time.sleep(_PAUSE_S)


def _is_healthy(client: Client, member: dict[str, Any]) -> bool:
    if not member["clientURLs"]:
        print(f"member {member['id']} is unreachable: no available published client urls")
        return False
    for url in member["clientURLs"]:
        try:
            document = client.health(url).document or {}
        except OSError as error:
            print(f"failed to check the health of member {member['id']} on {url}: Get {url}/health: {problem_with(url, error)}")
            continue
        healthy = document.get("health") in ("true", True)
        print(f"member {member['id']} is {'healthy' if healthy else 'unhealthy'}: got {'healthy' if healthy else 'unhealthy'} result from {url}")
        return healthy
    print(f"member {member['id']} is unreachable: [{' '.join(member['clientURLs'])}] are all unreachable")
    return False


def _list(run: Run) -> None:
    run.no_arguments()
    members = _members(run)
    try:
        leader = run.client.leader()
    except ApiError as error:
        raise FailureError(f"Failed to get leader:  {error}") from None
    for each in members:
        peers = ",".join(each["peerURLs"])
        if not each["name"]:
            print(f"{each['id']}[unstarted]: peerURLs={peers}")
        else:
            leads = str(each["id"] == leader["id"]).lower()
            print(f"{each['id']}: name={each['name']} peerURLs={peers} clientURLs={','.join(each['clientURLs'])} isLeader={leads}")


def _members(run: Run, before: str = "") -> list[dict[str, Any]]:
    try:
        return run.client.members()
    except ApiError as error:
        raise FailureError(f"{before}{error}") from None


def _checked_urls(urls: list[str]) -> list[str]:
    """As upstream's types.NewURLs. Raises FailureError."""
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https", "unix", "unixs"):
            if ":" in url.split("/")[0] and not parts.scheme:
                raise FailureError(f'parse "{url}": first path segment in URL cannot contain colon')
            raise FailureError(f"URL scheme must be http, https, unix, or unixs: {url}")
        if ":" not in parts.netloc:
            raise FailureError(f'URL address does not have the form "host:port": {url}')
        if parts.path:
            raise FailureError(f"URL must not contain a path: {url}")
    return sorted(urls)


def _add(run: Run) -> None:
    if len(run.args) != 2:
        raise FailureError("Provide a name and a single member peerURL")
    name, url = run.args
    _ = run.client
    try:
        added = run.client.change_members("POST", "", {"peerURLs": _checked_urls([url])}, 201, told=(409,))
    except ApiError as error:
        raise FailureError(str(error)) from None
    print(f"Added member named {name} with ID {added['id']} to cluster\n", flush=True)
    initial = ",".join(f"{name if each['id'] == added['id'] else each['name']}={peer}" for each in _members(run) for peer in each["peerURLs"])
    print(f'ETCD_NAME="{name}"\nETCD_INITIAL_CLUSTER="{initial}"\nETCD_INITIAL_CLUSTER_STATE="existing"')


def _remove(run: Run) -> None:
    member = run.only_argument("Provide a single member ID")
    members = _members(run, "Error while verifying ID against known members: ")
    for each in members:
        if each["name"] == member:
            print(f"Found a member named {member}; if this is correct, please use its ID, eg:\n\tetcdctl member remove {each['id']}", file=sys.stderr)
            where = "https://github.com/etcd-io/etcd/blob/master/Documentation/runtime-configuration.md#remove-a-member"
            print(f"For more details, read the documentation at {where}\n", file=sys.stderr)
    if all(each["id"] != member for each in members):
        raise FailureError(f"Couldn't find a member in the cluster with an ID of {member}.")
    try:
        run.client.change_members("DELETE", f"/{member}", None, 204, 410)
    except ApiError as error:
        raise FailureError(f"Received an error trying to remove member {member}: {error}") from None
    print(f"Removed member {member} from cluster")


def _update(run: Run) -> None:
    if len(run.args) != 2:
        raise FailureError("Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)")
    member, urls = run.args
    _ = run.client
    try:
        run.client.change_members("PUT", f"/{urllib.parse.quote(member)}", {"peerURLs": _checked_urls(urls.split(","))}, 204, told=(404, 409))
    except ApiError as error:
        raise FailureError(str(error)) from None
    print(f"Updated member with ID {member} in cluster")


HEALTH = Command(
    "cluster-health",
    "check the health of the etcd cluster",
    " ",
    _health,
    (Flag("forever, f", "bool", "forever check the health every 10 second until CTRL+C"),),
)
MEMBER = Command(
    "member",
    "member add, remove and list subcommands",
    commands=(
        Command("list", "enumerate existing cluster members", " ", _list),
        Command("add", "add a new member to the etcd cluster", "<name> <peerURL>", _add),
        Command("remove", "remove an existing member from the etcd cluster", "<memberID>", _remove),
        Command("update", "update an existing member in the etcd cluster", "<memberID> <peerURLs>", _update),
    ),
)
