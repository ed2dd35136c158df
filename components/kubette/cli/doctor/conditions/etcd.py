"""Pure: etcd as its members and its files tell it."""

import re
from collections.abc import Iterator

from kubette.cli.doctor.facts import Etcd, Facts, Machine
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

QUOTA_BYTES = 2 << 30  # etcd's own default
NEAR_QUOTA = 0.8


def _answers(facts: Facts) -> list[tuple[Machine, Etcd]]:
    return [(machine, machine.etcd) for machine in facts.powered if machine.etcd is not None]


def _told(facts: Facts) -> Etcd | None:
    """The fullest answer."""
    answered = [etcd for _, etcd in _answers(facts) if not etcd.error]
    return max(answered, key=lambda etcd: len(etcd.statuses), default=None)


def _voters(etcd: Etcd) -> list[dict[str, object]]:
    return [m for m in etcd.members if not m.get("isLearner")]


def down(facts: Facts) -> Iterator[Seen]:
    """Nobody answers: no etcd runs, or no quorum is left."""
    answers = _answers(facts)
    if not answers or _told(facts) is not None:
        return
    members = max(len(re.findall(r"=https?://", m.flags("etcd").get("initial-cluster", ""))) for m, _ in answers)
    size = max(members, len([m for m in facts.control_planes if m.flags("etcd")]))
    running = [
        m
        for m in facts.powered
        if ((c := m.container("etcd")) and c.state == "CONTAINER_RUNNING") or (m.units.get("etcd") or {}).get("ActiveState") == "active"
    ]
    if running and len(running) <= size // 2:
        why = f"{len(running)} of {size} members run, and a majority is {size // 2 + 1}: without it etcd neither elects a leader nor takes a write"
        remedy = "start the other members; if their machines are lost for good, restore a snapshot: etcdctl snapshot restore"
        yield Seen("etcd", f"etcdserver: no leader ({answers[0][1].error})", why, remedy)
        return
    for machine, etcd in answers:
        why = "etcd does not answer on this machine: kube-apiserver cannot read or write anything"
        yield Seen(
            machine.name, etcd.error, why, "crictl ps -a --name etcd; crictl logs ID" if facts.style == "kubeadm" else "journalctl -u etcd -n 20"
        )


def member_unreachable(facts: Facts) -> Iterator[Seen]:
    etcd = _told(facts)
    if etcd is None:
        return
    alive = {status.get("Status", {}).get("header", {}).get("member_id") for status in etcd.statuses}
    for member in etcd.members:
        if member.get("ID") not in alive and member.get("name"):
            voters = len(_voters(etcd))
            left = sum(1 for m in _voters(etcd) if m.get("ID") in alive)
            why = f"{left} of {voters} voting members answer, {voters // 2 + 1} must: {left - voters // 2 - 1} more may be lost"
            yield Seen(
                str(member.get("name")),
                f"failed to get the status of endpoint {_url(member)} (context deadline exceeded)",
                why,
                _restart(facts, str(member.get("name"))),
            )


def unstarted(facts: Facts) -> Iterator[Seen]:
    etcd = _told(facts)
    for member in etcd.members if etcd else ():
        if not member.get("name"):
            peers = ", ".join(str(u) for u in member.get("peerURLs") or [])
            why = f"a member was added for {peers} and never started; it counts for the quorum already"
            yield Seen(
                "etcd", f"{_id(member)}, unstarted", why, f"start it with --initial-cluster-state=existing, or: etcdctl member remove {_id(member)}"
            )


def learner(facts: Facts) -> Iterator[Seen]:
    etcd = _told(facts)
    for member in etcd.members if etcd else ():
        if member.get("isLearner"):
            why = "it gets the log but has no vote, and serves no reads; when it has caught up it must be promoted"
            yield Seen(str(member.get("name") or "etcd"), f"{_id(member)}: learner, not promoted", why, f"etcdctl member promote {_id(member)}")


def alarm(facts: Facts) -> Iterator[Seen]:
    etcd = _told(facts)
    for line in etcd.alarms if etcd else ():
        if "NOSPACE" in line:
            why = "the database has reached --quota-backend-bytes: reads go on, writes are refused with mvcc: database space exceeded"
            remedy = "etcdctl compact REVISION; etcdctl defrag --cluster; etcdctl alarm disarm"
            yield Seen("etcd", line, why, remedy)
        elif "CORRUPT" in line:
            why = "members disagree about the data of one revision"
            yield Seen(
                "etcd",
                line,
                why,
                "find the member that differs (etcdctl endpoint hashkv --cluster), remove it, and add it anew with an empty data directory",
            )


def near_quota(facts: Facts) -> Iterator[Seen]:
    etcd = _told(facts)
    quotas = [int(value) for m in facts.control_planes if (value := m.flags("etcd").get("quota-backend-bytes", "")).isdigit() and int(value)]
    quota = min(quotas, default=QUOTA_BYTES)
    for status in etcd.statuses if etcd and not etcd.alarms else ():
        size = int(status.get("Status", {}).get("dbSize") or 0)
        if size > NEAR_QUOTA * quota:
            why = f"at {quota} bytes (--quota-backend-bytes) every write will be refused"
            yield Seen("etcd", f"{status.get('Endpoint')}: DB SIZE {size} bytes", why, "etcdctl compact REVISION; etcdctl defrag")


def even(facts: Facts) -> Iterator[Seen]:
    etcd = _told(facts)
    count = len(_voters(etcd)) if etcd else 0
    if count and count % 2 == 0:
        why = f"{count} members need {count // 2 + 1} and survive the loss of {count // 2 - 1}, no more than {count - 1} members do"
        yield Seen("etcd", f"{count} voting members", why, "add one more control plane, or remove one member")


def data_dir(facts: Facts) -> Iterator[Seen]:
    """The folder etcd is started with, as its machine has it."""
    for machine in facts.powered:
        flags = machine.flags("etcd")
        path = _host_path(machine, flags.get("data-dir", ""))
        if not path or not path.startswith(("/var/lib/etcd", "/opt/etcd")):
            continue
        folder = machine.folders.get(path)
        answered = machine.etcd is not None and not machine.etcd.error
        if folder is None or (not answered and "member" not in folder.text.split()):
            snapshot = f"etcdctl snapshot restore FILE --data-dir {path}"
            why = "etcd is to begin with this folder: an empty one makes a new, empty cluster, and what was restored lies elsewhere"
            yield Seen(
                machine.name,
                f"--data-dir {path}: {'no such directory' if folder is None else 'it is empty'}",
                why,
                f"point --data-dir (or the hostPath) to the right folder, or: {snapshot}",
            )
        elif (user := (machine.units.get("etcd") or {}).get("User")) and user != "root" and folder.owner == 0:
            what = f"cannot access data directory: open {path}: permission denied"
            yield Seen(
                machine.name, what, f"the unit runs as {user}, the folder belongs to root", f"chown -R {user}:{user} {path} && systemctl restart etcd"
            )
        elif folder.mode & 0o077:
            why = "whoever can read it has every Secret of the cluster"
            yield Seen(machine.name, f'directory "{path}" exist without desired file permission. Mode is 0{folder.mode:o}', why, f"chmod 700 {path}")


def _host_path(machine: Machine, inside: str) -> str:
    """Where the machine keeps what the container calls `inside`."""
    manifest = machine.manifest("etcd")
    if manifest is None or not manifest.document:
        return inside
    name = next(
        (m.get("name") for m in manifest.container.get("volumeMounts") or [] if m.get("mountPath", "").rstrip("/") == inside.rstrip("/")), None
    )
    volumes = (manifest.document.get("spec") or {}).get("volumes") or []
    return next((str((v.get("hostPath") or {}).get("path", "")).rstrip("/") for v in volumes if v.get("name") == name), inside)


def _id(member: dict[str, object]) -> str:
    return f"{int(str(member.get('ID') or 0)):x}"


def _url(member: dict[str, object]) -> str:
    urls = member.get("clientURLs")
    return str(urls[0]) if isinstance(urls, list) and urls else "?"


def _restart(facts: Facts, name: str) -> str:
    return (
        f"on {name}: crictl ps -a --name etcd; crictl logs ID"
        if facts.style == "kubeadm"
        else f"on {name}: systemctl status etcd; journalctl -u etcd -n 20"
    )


CONDITIONS = (
    Condition("etcd-unavailable", ERROR, "no etcd answers, or too few members for a majority", down),
    Condition("etcd-data-dir-wrong", ERROR, "etcd's data directory is missing, empty, or somebody else's", data_dir),
    Condition("etcd-alarm", ERROR, "etcd has raised an alarm (NOSPACE, CORRUPT)", alarm),
    Condition("etcd-member-unreachable", ERROR, "a member of etcd does not answer", member_unreachable),
    Condition("etcd-member-unstarted", ERROR, "a member was added and never started", unstarted),
    Condition("etcd-learner-not-promoted", WARNING, "a learner waits to be promoted", learner),
    Condition("etcd-members-even", WARNING, "an even number of members", even),
    Condition("etcd-near-quota", WARNING, "etcd's database is nearly full", near_quota),
)
