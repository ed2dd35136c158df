"""The flags of kube-scheduler and its KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1)."""

from typing import Any

import yaml

from kubette.client.elected import add_leader_election_flags, add_serving_flags
from kubette.component_base.flags import FlagSet, parse_duration
from kubette.component_base.run import StartupError

PORT = 10259
DEFAULT_SCHEDULER = "default-scheduler"
_API_VERSION = "kubescheduler.config.k8s.io/v1"

# Field of the configuration file -> option it sets.
_LEADER_ELECTION = {
    "leaderElect": "leader_elect",
    "leaseDuration": "leader_elect_lease_duration",
    "renewDeadline": "leader_elect_renew_deadline",
    "retryPeriod": "leader_elect_retry_period",
    "resourceLock": "leader_elect_resource_lock",
    "resourceName": "leader_elect_resource_name",
    "resourceNamespace": "leader_elect_resource_namespace",
}


def flag_set() -> FlagSet:
    flags = FlagSet(
        "kube-scheduler",
        "The Kubernetes scheduler is a control plane process which assigns Pods to Nodes.",
    )
    flags.string("config", help="The path to the configuration file.")
    flags.string("kubeconfig", help="Path to kubeconfig file with authorization and master location information.")
    flags.string("master", help="The address of the Kubernetes API server (overrides any value in kubeconfig)")
    flags.int("v", 0, "number for the log level verbosity", "v")
    add_serving_flags(flags, PORT)
    add_leader_election_flags(flags, "kube-scheduler")
    return flags


def scheduler_names(options: Any) -> list[str]:
    """Reads --config into `options` and answers the profiles' names. Raises StartupError in upstream's words."""
    if not options.config:
        return [DEFAULT_SCHEDULER]
    try:
        with open(options.config) as file:
            document = yaml.safe_load(file)
    except OSError as error:
        raise StartupError(f"open {options.config}: {(error.strerror or str(error)).lower()}") from error
    except yaml.YAMLError as error:
        raise StartupError(f"yaml: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "KubeSchedulerConfiguration":
        raise StartupError(f"couldn't decode as KubeSchedulerConfiguration, got {document.get('kind') if isinstance(document, dict) else document!r}")
    if document.get("apiVersion") != _API_VERSION:
        raise StartupError(f'no kind "KubeSchedulerConfiguration" is registered for version "{document.get("apiVersion")}"')
    return _read(document, options)


def _read(document: dict[str, Any], options: Any) -> list[str]:
    known = {"apiVersion", "kind", "clientConnection", "leaderElection", "profiles"}
    for field in document:
        if field not in known:
            raise StartupError(f'strict decoding error: unknown field "{field}"')
    connection = document.get("clientConnection") or {}
    for field in connection:
        if field not in ("kubeconfig",):
            raise StartupError(f'strict decoding error: unknown field "clientConnection.{field}"')
    options.kubeconfig = connection.get("kubeconfig") or options.kubeconfig
    for field, value in (document.get("leaderElection") or {}).items():
        if field not in _LEADER_ELECTION:
            raise StartupError(f'strict decoding error: unknown field "leaderElection.{field}"')
        option = _LEADER_ELECTION[field]
        if option.replace("_", "-") not in options.changed:
            is_time = isinstance(value, str) and field in ("leaseDuration", "renewDeadline", "retryPeriod")
            setattr(options, option, parse_duration(value) if is_time else value)
    names = []
    for profile in document.get("profiles") or [{}]:
        for field in profile:
            if field != "schedulerName":
                raise StartupError(f'strict decoding error: unknown field "profiles[0].{field}"')
        names.append(profile.get("schedulerName") or DEFAULT_SCHEDULER)
    if len(set(names)) != len(names):
        raise StartupError(f"profiles[{len(names) - 1}].schedulerName: Duplicate value: {names[-1]!r}")
    return names
