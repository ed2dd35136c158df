"""Pure: the lines that are typed on machines to save, to verify and to restore a snapshot of etcd, and what their answers mean.

A restore is a row of steps, one after the other, each on all its machines at once. Every script may be typed again: whoever is interrupted goes on with the step that
was not finished. No member may start with the new data while one still runs with the old, so all are stopped before the folders are changed; and API servers are
stopped all that time, for they remember what they have seen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubette.cli.doctor.facts import MANIFESTS
from kubette.cli.errors import CommandError
from kubette.cli.snapshots.member import ETCD, ETCDUTL, Member

BUMP_REVISION = 1_000_000_000  # what etcd's documentation proposes: more than was ever written between two snapshots
ASIDE = "/etc/kubernetes/kubette-restore"  # manifests of what is stopped
SCRATCH_CLIENT, SCRATCH_PEER = 23790, 23800
STATUS, LIVE, SCRATCH = "status.json", "live.json", "scratch.json"
NOW, THEN = "now.json", "then.json"
READY = "curl -sfk -m 5 https://127.0.0.1:6443/readyz"  # of the machine itself: kubectl's own kubeconfig may go through a balancer
KEYS = 'get "" --prefix --keys-only -w json'
HASH_AT = 'endpoint hashkv --rev="$rev" -w json'
COUNT_AT = 'get "" --prefix --keys-only --limit=1 --rev="$rev" -w json'  # a range says how many keys there are, whatever its limit


@dataclass(frozen=True, slots=True)
class Step:
    """`scripts`: machine → lines of its shell."""

    name: str
    title: str
    scripts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Status:
    """What `etcdutl snapshot status` says."""

    hash: int
    revision: int
    keys: int
    size: int


@dataclass(frozen=True, slots=True)
class Sum:
    """What a member says of its data at the snapshot's revision; `revision` is where it is itself."""

    revision: int
    hash: int
    compacted: int
    keys: int


def folder(identity: str) -> str:
    """Where a machine keeps what is needed while a backup or a restore lasts."""
    return f"/var/lib/kubette-snapshots/{identity}"


def save_script(member: Member, work: str) -> str:
    """The snapshot, and what the member that gave it says of its own data at that revision."""
    file = f"{work}/snapshot.db"
    return f"""set -eu
umask 077
mkdir -p {work}
{member.etcdctl(f"snapshot save {file}")}
{ETCDUTL} snapshot status {file} -w json >{work}/{STATUS}
{_sum_lines(member, member.client_url, work, LIVE)}
"""


def _sum_lines(member: Member, url: str, work: str, into: str) -> str:
    revision = f"$(sed 's/.*\"revision\":\\([0-9]*\\).*/\\1/' {work}/{STATUS})"
    return f"rev={revision}\n{{ {member.etcdctl(HASH_AT, url)}; {member.etcdctl(COUNT_AT, url)}; }} >{work}/{into}"


def scratch_script(member: Member, work: str, keys_into: str = "") -> str:
    """Restores the snapshot into a member of nobody's cluster and asks that one. With `keys_into` its keys are listed in that file."""
    client, peer = f"{member.client_url.partition('://')[0]}://127.0.0.1:{SCRATCH_CLIENT}", f"http://127.0.0.1:{SCRATCH_PEER}"
    whose = f"--name=scratch --data-dir={work}/scratch --initial-cluster=scratch={peer} --initial-advertise-peer-urls={peer} --initial-cluster-token=scratch"
    certificates = (
        f" --trusted-ca-file={member.ca_file} --client-cert-auth --cert-file={member.cert_file} --key-file={member.key_file}"
        if member.cert_file
        else ""
    )
    listed = f"\n{member.etcdctl(KEYS, client)} >{work}/{keys_into}" if keys_into else ""
    return f"""set -eu
umask 077
rm -rf {work}/scratch
{ETCDUTL} snapshot status {work}/snapshot.db -w json >{work}/{STATUS}
{ETCDUTL} snapshot restore {work}/snapshot.db {whose}
{ETCD} {whose} --listen-client-urls={client} --advertise-client-urls={client} --listen-peer-urls={peer}{certificates} >{work}/scratch.log 2>&1 &
pid=$!
trap 'kill $pid; wait $pid || true; rm -rf {work}/scratch' EXIT
until {member.etcdctl("endpoint health", client)} >/dev/null 2>&1; do kill -0 $pid || {{ tail {work}/scratch.log; exit 1; }}; sleep 0.1; done
{_sum_lines(member, client, work, SCRATCH)}{listed}
"""


def now_script(member: Member, work: str) -> str:
    """The keys that there are now."""
    return f"""set -eu
umask 077
mkdir -p {work}
{member.etcdctl(KEYS)} >{work}/{NOW}
"""


def status_of(text: str) -> Status:
    answer = json.loads(text)
    return Status(answer["hash"], answer["revision"], answer["totalKey"], answer["totalSize"])


def sum_of(text: str) -> Sum:
    hashed, counted = (json.loads(line) for line in text.splitlines())
    said = hashed[0]["HashKV"]
    return Sum(counted["header"]["revision"], said["hash"], said.get("compact_revision", 0), counted.get("count", 0))


def difference(status: Status, live: Sum, scratch: Sum) -> str:
    """Why a snapshot is not what its member has; empty when it is."""
    if scratch.revision != status.revision:
        return f"restored it is at revision {scratch.revision}, and the file says {status.revision}"
    if scratch.keys != live.keys:
        return f"restored it has {scratch.keys} keys at revision {status.revision}, and etcd has {live.keys}"
    if live.compacted != scratch.compacted:
        return f"etcd was compacted meanwhile (to revision {live.compacted}): nothing can be said; try again"
    if scratch.hash != live.hash:
        return f"restored its keys have hash {scratch.hash:x} at revision {status.revision}, and etcd's have {live.hash:x}"
    return ""


def refusal(members: Sequence[Member], states: Mapping[str, str]) -> str:
    """Why a restore must not begin; empty when it may."""
    away = [member.machine for member in members if states.get(member.machine) != "running"]
    if away:
        return f'machine "{away[0]}" is {states.get(away[0], "off")}: its member of etcd would come back with the old data; kubette machine start {away[0]}'
    return ""


def restore(members: Sequence[Member], servers: Sequence[str], are_units: bool, identity: str, keys: int) -> list[Step]:
    """`servers` are the machines of API servers, as units or static pods; `keys` is how many the snapshot has."""
    work = folder(identity)
    initial = ",".join(f"{member.name}={member.peer_url}" for member in members)
    return [
        Step(
            "restore", "Restoring the snapshot into new data directories", {m.machine: _restore_script(m, initial, identity, work) for m in members}
        ),
        Step("stop-apiserver", "Stopping the API servers", {name: _stop("kube-apiserver", are_units) for name in servers}),
        Step("stop-etcd", "Stopping etcd", {m.machine: _stop("etcd", m.is_unit) for m in members}),
        Step("switch", "Putting the new data directories in the place of the old", {m.machine: _switch_script(m, identity) for m in members}),
        Step("start-etcd", "Starting etcd", {m.machine: _start("etcd", m.is_unit) + _until(m.etcdctl("endpoint health")) for m in members}),
        Step("check", "Comparing with the snapshot", {m.machine: _check_script(m, keys) for m in members}),
        Step("start-apiserver", "Starting the API servers", {name: _start("kube-apiserver", are_units) + _until(READY) for name in servers}),
    ]


def _new(member: Member, identity: str) -> str:
    return f"{member.data_dir}-new-{identity}"


def old(member: Member, identity: str) -> str:
    """Where the data from before a restore stay."""
    return f"{member.data_dir}-before-{identity}"


def _restore_script(member: Member, initial: str, identity: str, work: str) -> str:
    """A token of its own gives the members other ids than any member had before: one of the old cluster cannot join."""
    new = _new(member, identity)
    whose = f"--name={member.name} --initial-cluster={initial} --initial-advertise-peer-urls={member.peer_url} --initial-cluster-token=restored-{identity}"
    return f"""set -eu
[ ! -d {new} ] || exit 0
rm -rf {new}.part
{ETCDUTL} snapshot restore {work}/snapshot.db --data-dir={new}.part {whose} --bump-revision={BUMP_REVISION} --mark-compacted
[ ! -e {member.data_dir} ] || chown -R --reference={member.data_dir} {new}.part
mv {new}.part {new}
"""


def _switch_script(member: Member, identity: str) -> str:
    new, before = _new(member, identity), old(member, identity)
    return f"""set -eu
[ -d {new} ] || exit 0
[ -e {before} ] || [ ! -e {member.data_dir} ] || mv {member.data_dir} {before}
mv {new} {member.data_dir}
sync
"""


def _check_script(member: Member, keys: int) -> str:
    count = member.etcdctl('get "" --prefix --keys-only --limit=1 -w fields')
    return f"""found=$({count} | sed -n 's/^"Count" : //p')
[ "$found" = {keys} ] || {{ echo "etcd has $found keys, and the snapshot {keys}"; exit 1; }}
"""


def _stop(component: str, is_unit: bool) -> str:
    if is_unit:
        return f"systemctl stop {component}\n"
    return f"""mkdir -p {ASIDE}
[ ! -e {MANIFESTS}/{component}.yaml ] || mv {MANIFESTS}/{component}.yaml {ASIDE}/
until [ -z "$(crictl ps -q --name '^{component}$')" ]; do sleep 0.2; done
"""


def _start(component: str, is_unit: bool) -> str:
    return f"systemctl start {component}\n" if is_unit else f"[ ! -e {ASIDE}/{component}.yaml ] || mv {ASIDE}/{component}.yaml {MANIFESTS}/\n"


def _until(line: str) -> str:
    return f"until {line} >/dev/null 2>&1; do sleep 0.3; done\n"


def chosen(members: Sequence[Member], healthy: Mapping[str, bool]) -> Member:
    """The member to take a snapshot of: the first that answers. Raises CommandError."""
    for member in members:
        if healthy.get(member.machine):
            return member
    names = ", ".join(member.machine for member in members)
    raise CommandError(f"no member of etcd answers (on {names}): there is nothing to take a snapshot of")
