"""An elected component: its flags, its secure port, and that it works only while it holds its lease.

kube-controller-manager and kube-scheduler are this and their work (upstream: component-base's config and server options).
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from kubette.api import releases
from kubette.apimachinery.status import ApiError
from kubette.client import kubeconfig, secure_port
from kubette.client.leader_election import Config, LeaderElector, LeadershipLost, new_identity
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.component_base import health, logs, metrics, version
from kubette.component_base.flags import FlagSet
from kubette.component_base.run import StartupError
from kubette.stdx import tasks
from kubette.stdx.backoff import Backoff

log = logs.logger(__name__)

Work = Callable[[Client, metrics.Registry], Awaitable[None]]
_SKEW_RETRIES = Backoff(base_s=1.0, cap_s=30.0)


def add_serving_flags(flags: FlagSet, port: int) -> None:
    """The secure port's flags (apiserver's SecureServing and delegating options)."""
    flags.string("bind-address", "0.0.0.0", "The IP address on which to listen for the --secure-port port.")
    flags.int("secure-port", port, "The port on which to serve HTTPS with authentication and authorization. If 0, don't serve HTTPS at all.")
    flags.string("tls-cert-file", help="File containing the default x509 certificate for HTTPS. If not given, a self-signed certificate is made.")
    flags.string("tls-private-key-file", help="File containing the default x509 private key matching --tls-cert-file.")
    flags.string("client-ca-file", help="If set, a client certificate signed by one of these authorities is an identity.")
    flags.string("requestheader-client-ca-file", help="Root certificate bundle of front proxies whose requests name the user in headers.")
    flags.strings("requestheader-allowed-names", [], "Common names of client certificates that may name the user in headers; empty allows any.")
    flags.strings("requestheader-username-headers", ["x-remote-user"], "Request headers to inspect for usernames.")
    flags.strings("requestheader-group-headers", ["x-remote-group"], "Request headers to inspect for groups.")
    flags.string("authentication-kubeconfig", help="kubeconfig of an account that may create tokenreviews.authentication.k8s.io.")
    flags.string("authorization-kubeconfig", help="kubeconfig of an account that may create subjectaccessreviews.authorization.k8s.io.")
    flags.strings("authorization-always-allow-paths", ["/healthz", "/readyz", "/livez"], "HTTP paths to skip during authorization.")


def add_leader_election_flags(flags: FlagSet, name: str) -> None:
    """component-base's LeaderElectionConfiguration."""
    flags.bool("leader-elect", True, "Start a leader election client and gain leadership before executing the main loop.")
    flags.duration("leader-elect-lease-duration", 15.0, "How long non-leader candidates wait after the last renewal they observed.")
    flags.duration("leader-elect-renew-deadline", 10.0, "How long the leader tries to renew before it stops leading.")
    flags.duration("leader-elect-retry-period", 2.0, "How long clients wait between tries of acquisition and renewal.")
    flags.string("leader-elect-resource-lock", "leases", "The type of resource object that is used for locking. Only 'leases' is supported.")
    flags.string("leader-elect-resource-name", name, "The name of the lease.")
    flags.string("leader-elect-resource-namespace", "kube-system", "The namespace of the lease.")


async def serve(options: Any, name: str, work: Work) -> None:
    """Serve the secure port, wait for the lease if --leader-elect, and run `work` until cancelled. Raises StartupError."""
    client_config = _load(options.kubeconfig, options.master)
    registry = metrics.Registry()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(client_config, name, field_manager=name))
        reviewer = None
        # kubeadm gives both flags the same file.
        review_path = options.authentication_kubeconfig or options.authorization_kubeconfig
        if review_path:
            reviewer = await stack.enter_async_context(Client(_load(review_path, ""), name))
        elector = _elector(client, options)
        await stack.enter_async_context(secure_port.serving(options, registry, _checks(elector), reviewer))
        scope = await stack.enter_async_context(tasks.Scope())
        scope.start(note_skew(client, name), "version skew")  # whether it leads or stands by
        if elector is None:
            await work(client, registry)
            return
        lease = options.leader_elect_resource_name
        leader = registry.gauge("leader_election_master_status", "Whether the reporting system is master of the relevant lease.", ["name"])
        leader.set(0, lease)

        async def lead() -> None:
            leader.set(1, lease)
            await work(client, registry)

        try:
            await elector.run(lead)
        except LeadershipLost as error:
            raise StartupError(str(error)) from None


async def note_skew(client: Client, name: str) -> None:
    """Compare with the API server's release, once that answers. A skew that nobody has tested is worth a line in the log; it stops nothing, as upstream."""
    for failures in itertools.count():
        try:
            served = releases.parse((await client.request("GET", "/version"))["gitVersion"])
            reason = releases.component_skew(releases.parse(version.git_version()), served)
            break
        except (ApiError, TransportError):
            await asyncio.sleep(_SKEW_RETRIES.delay(failures))
        except (KeyError, ValueError):
            return  # an API server that does not say
    if reason:
        log.warning("Version skew is not supported", component=name, version=version.git_version(), apiserver=served, reason=reason)


def _load(path: str, master: str) -> kubeconfig.ClientConfig:
    try:
        return kubeconfig.load(path, master=master)
    except kubeconfig.KubeconfigError as error:
        raise StartupError(str(error)) from error


def _elector(client: Client, options: Any) -> LeaderElector | None:
    if not options.leader_elect:
        return None
    if options.leader_elect_resource_lock != "leases":
        raise StartupError(f"unrecognized resource lock: {options.leader_elect_resource_lock}")
    try:
        return LeaderElector(
            client,
            Config(
                options.leader_elect_resource_name,
                new_identity(socket.gethostname()),
                options.leader_elect_resource_namespace,
                options.leader_elect_lease_duration,
                options.leader_elect_renew_deadline,
                options.leader_elect_retry_period,
            ),
        )
    except ValueError as error:
        raise StartupError(str(error)) from None


def _checks(elector: LeaderElector | None) -> dict[str, health.Check]:
    async def leader_election() -> str | None:
        if elector is None or elector.healthy():
            return None
        return "failed election to renew leadership on lease"

    return {"leaderElection": leader_election}
