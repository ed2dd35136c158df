"""`member add|remove|update|list|promote` and `move-leader`."""

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, bad_args


def _member_id(context: Context) -> int:
    if len(context.args) != 1:
        raise bad_args("member ID is not provided")
    try:
        return golang.parse_int(context.args[0], 16, unsigned=True)
    except ValueError as error:
        raise bad_args(f"bad member ID arg ({error}), expecting ID in Hex") from None


def _urls(text: str) -> tuple[str, ...]:
    """The client refuses what cannot be a member's URL before anybody is asked."""
    from kubette.etcd import flag_table

    try:
        return flag_table.urls(text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _add(context: Context) -> None:
    args, peer_urls = context.args, context.options.peer_urls
    if not args:
        raise bad_args("member name not provided")
    if len(args) > 1:
        hints = "".join(f", did you mean --peer-urls={word}" for word in args if word.lower().startswith("http"))
        raise bad_args(f"too many arguments{hints}")
    if not peer_urls:
        raise bad_args("member peer urls not provided")
    request = pb.MemberAddRequest(peerURLs=_urls(peer_urls), isLearner=context.options.learner)
    answer = context.call("Cluster/MemberAdd", request, pb.MemberAddResponse)
    context.show("MemberAdd", answer, id=answer.member.ID)
    if context.style.format == "simple":
        names = {member.ID: args[0] if member.ID == answer.member.ID else member.name for member in answer.members}
        initial = ",".join(f"{names[member.ID]}={url}" for member in answer.members for url in member.peerURLs)
        print(f"\nETCD_NAME={golang.quote(args[0])}")
        print(f"ETCD_INITIAL_CLUSTER={golang.quote(initial)}")
        print(f"ETCD_INITIAL_ADVERTISE_PEER_URLS={golang.quote(peer_urls)}")
        print('ETCD_INITIAL_CLUSTER_STATE="existing"')


def _remove(context: Context) -> None:
    member = _member_id(context)
    context.show("MemberRemove", context.call("Cluster/MemberRemove", pb.MemberRemoveRequest(ID=member), pb.MemberRemoveResponse), id=member)


def _update(context: Context) -> None:
    member = _member_id(context)
    if not context.options.peer_urls:
        raise bad_args("member peer urls not provided")
    request = pb.MemberUpdateRequest(ID=member, peerURLs=_urls(context.options.peer_urls))
    context.show("MemberUpdate", context.call("Cluster/MemberUpdate", request, pb.MemberUpdateResponse), id=member)


def _promote(context: Context) -> None:
    member = _member_id(context)
    context.show("MemberPromote", context.call("Cluster/MemberPromote", pb.MemberPromoteRequest(ID=member), pb.MemberPromoteResponse), id=member)


def _list(context: Context) -> None:
    context.show("MemberList", context.call("Cluster/MemberList", pb.MemberListRequest(linearizable=True), pb.MemberListResponse))


def _move_leader(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("move-leader command needs 1 argument")
    try:
        target = golang.parse_int(context.args[0], 16, unsigned=True)
    except ValueError as error:
        raise bad_args(str(error)) from None
    connection = context.connect()
    endpoints = context.settings.endpoints
    for endpoint in endpoints:
        status = connection.call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, endpoint=endpoint)
        if status.header.member_id == status.leader:
            answer = connection.call("Maintenance/MoveLeader", pb.MoveLeaderRequest(targetID=target), pb.MoveLeaderResponse, endpoint=endpoint)
            context.show("MoveLeader", answer, leader=status.leader, target=target)
            return
    hosts = " ".join(each.removeprefix("http://").removeprefix("https://") if "://" not in each else each for each in endpoints)
    raise CommandError(f"no leader endpoint given at [{hosts}]", 128)


def _add_flags(flags: FlagSet) -> None:
    flags.string("peer-urls", "", "comma separated peer URLs for the new member.")
    flags.bool("learner", False, "indicates if the new member is raft learner")


def _update_flags(flags: FlagSet) -> None:
    flags.string("peer-urls", "", "comma separated peer URLs for the updated member.")


_LIST_LONG = """When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner."""

MEMBER = Command(
    "member <subcommand>",
    "Membership related commands",
    commands=(
        Command("add <memberName> [options]", "Adds a member into the cluster", _add, _add_flags),
        Command("remove <memberID>", "Removes a member from the cluster", _remove),
        Command("update <memberID> [options]", "Updates a member in the cluster", _update, _update_flags),
        Command("list", "Lists all members in the cluster", _list, long=_LIST_LONG),
        Command(
            "promote <memberID>",
            "Promotes a non-voting member in the cluster",
            _promote,
            long="Promotes a non-voting learner member to a voting one in the cluster.",
        ),
    ),
)
MOVE_LEADER = Command("move-leader <transferee-member-id>", "Transfers leadership to another etcd cluster member.", _move_leader)
