"""Pure: the fields of kubeadm.k8s.io/v1beta3 and v1beta4, and what strict decoding says of any other (upstream: app/apis/kubeadm)."""

from typing import Any, Final

GROUP: Final = "kubeadm.k8s.io"
LATEST: Final = "v1beta4"
VERSIONS: Final = ("v1beta3", "v1beta4")

# A field is one of these words, an object (dict), or a list of objects ([dict]).
_S, _I, _B, _L, _D, _M = "string", "int32", "bool", "[]string", "Duration", "map[string]string"

_EXTRA_ARGS: dict[str, Any] = {"v1beta3": _M, "v1beta4": [{"name": _S, "value": _S}]}
_VOLUME = {"name": _S, "hostPath": _S, "mountPath": _S, "readOnly": _B, "pathType": _S}
_TIMEOUTS = dict.fromkeys(
    ("controlPlaneComponentHealthCheck", "kubeletHealthCheck", "kubernetesAPICall", "etcdAPICall", "tlsBootstrap", "discovery", "upgradeManifests"),
    _D,
)
_ENDPOINT = {"advertiseAddress": _S, "bindPort": _I}


def _component(version: str) -> dict[str, Any]:
    environment = {"extraEnvs": [{"name": _S, "value": _S}]} if version == "v1beta4" else {}
    return {"extraArgs": _EXTRA_ARGS[version], "extraVolumes": [_VOLUME], **environment}


def _registration(version: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": _S,
        "criSocket": _S,
        "taints": [{"key": _S, "value": _S, "effect": _S}],
        "kubeletExtraArgs": _EXTRA_ARGS[version],
        "ignorePreflightErrors": _L,
        "imagePullPolicy": _S,
    }
    return fields | ({"imagePullSerial": _B} if version == "v1beta4" else {})


def _cluster(version: str) -> dict[str, Any]:
    new = version == "v1beta4"
    image = {"imageRepository": _S, "imageTag": _S}
    fields: dict[str, Any] = {
        "etcd": {
            "local": {
                **image,
                "dataDir": _S,
                "extraArgs": _EXTRA_ARGS[version],
                "serverCertSANs": _L,
                "peerCertSANs": _L,
                **({"extraEnvs": [{"name": _S, "value": _S}]} if new else {}),
            },
            "external": {"endpoints": _L, "caFile": _S, "certFile": _S, "keyFile": _S},
        },
        "networking": {"serviceSubnet": _S, "podSubnet": _S, "dnsDomain": _S},
        "kubernetesVersion": _S,
        "controlPlaneEndpoint": _S,
        "apiServer": {**_component(version), "certSANs": _L, **({} if new else {"timeoutForControlPlane": _D})},
        "controllerManager": _component(version),
        "scheduler": _component(version),
        "dns": {**image, **({"disabled": _B} if new else {})},
        "certificatesDir": _S,
        "imageRepository": _S,
        "featureGates": "map[string]bool",
        "clusterName": _S,
    }
    if new:
        fields |= {"proxy": {"disabled": _B}, "encryptionAlgorithm": _S, "certificateValidityPeriod": _D, "caCertificateValidityPeriod": _D}
    return fields


def _init(version: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "bootstrapTokens": [{"token": _S, "description": _S, "ttl": _D, "expires": _S, "usages": _L, "groups": _L}],
        "nodeRegistration": _registration(version),
        "localAPIEndpoint": _ENDPOINT,
        "certificateKey": _S,
        "skipPhases": _L,
        "patches": {"directory": _S},
    }
    return fields | ({"dryRun": _B, "timeouts": _TIMEOUTS} if version == "v1beta4" else {})


def _join(version: str) -> dict[str, Any]:
    new = version == "v1beta4"
    fields: dict[str, Any] = {
        "nodeRegistration": _registration(version),
        "caCertPath": _S,
        "discovery": {
            "bootstrapToken": {"token": _S, "apiServerEndpoint": _S, "caCertHashes": _L, "unsafeSkipCAVerification": _B},
            "file": {"kubeConfigPath": _S},
            "tlsBootstrapToken": _S,
            **({} if new else {"timeout": _D}),
        },
        "controlPlane": {"localAPIEndpoint": _ENDPOINT, "certificateKey": _S},
        "skipPhases": _L,
        "patches": {"directory": _S},
    }
    return fields | ({"dryRun": _B, "timeouts": _TIMEOUTS} if new else {})


_UPGRADE_NODE = {
    "certificateRenewal": _B,
    "dryRun": _B,
    "etcdUpgrade": _B,
    "ignorePreflightErrors": _L,
    "skipPhases": _L,
    "patches": {"directory": _S},
    "imagePullPolicy": _S,
    "imagePullSerial": _B,
}
_UPGRADE_CHOICE = {"kubernetesVersion": _S, "allowExperimentalUpgrades": _B, "allowRCUpgrades": _B, "printConfig": _B}


def _upgrade(_: str) -> dict[str, Any]:
    plan = _UPGRADE_CHOICE | {name: _UPGRADE_NODE[name] for name in ("dryRun", "etcdUpgrade", "ignorePreflightErrors")}
    return {
        "apply": {**_UPGRADE_CHOICE, **_UPGRADE_NODE, "forceUpgrade": _B},
        "diff": {"kubernetesVersion": _S, "contextLines": _I},
        "node": _UPGRADE_NODE,
        "plan": plan,
        "timeouts": _TIMEOUTS,
    }


def _reset(_: str) -> dict[str, Any]:
    return {
        "certificatesDir": _S,
        "cleanupTmpDir": _B,
        "criSocket": _S,
        "dryRun": _B,
        "force": _B,
        "ignorePreflightErrors": _L,
        "skipPhases": _L,
        "unmountFlags": _L,
        "timeouts": _TIMEOUTS,
    }


_KINDS = {
    "ClusterConfiguration": _cluster,
    "InitConfiguration": _init,
    "JoinConfiguration": _join,
    "ResetConfiguration": _reset,
    "UpgradeConfiguration": _upgrade,
}
KINDS: Final = tuple(_KINDS)


def versions_of(kind: str) -> tuple[str, ...]:
    """The two youngest kinds are of v1beta4 only."""
    return (LATEST,) if kind in ("ResetConfiguration", "UpgradeConfiguration") else VERSIONS


def problems(document: dict[str, Any], version: str, kind: str) -> list[str]:
    """What strict decoding finds wrong, in its words."""
    found: list[str] = []
    _check({k: v for k, v in document.items() if k not in ("apiVersion", "kind")}, _KINDS[kind](version), "", kind, found)
    return found


def _check(value: Any, schema: Any, path: str, kind: str, found: list[str]) -> None:
    if value is None:
        return
    match schema:
        case dict():
            if not isinstance(value, dict):
                found.append(_mismatch(value, kind, path, "struct"))
                return
            for name, inner in value.items():
                where = f"{path}.{name}" if path else str(name)
                if name in schema:
                    _check(inner, schema[name], where, kind, found)
                else:
                    found.append(f'unknown field "{where}"')
        case [element]:
            if not isinstance(value, list):
                found.append(_mismatch(value, kind, path, "slice"))
                return
            for index, inner in enumerate(value):
                _check(inner, element, f"{path}[{index}]", kind, found)
        case word:
            if not _is(value, word):
                found.append(_mismatch(value, kind, path, word))


def _is(value: Any, word: str) -> bool:
    match word:
        case "bool":
            return isinstance(value, bool)
        case "int32":
            return isinstance(value, int) and not isinstance(value, bool)
        case "[]string":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "map[string]string":
            return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
        case "map[string]bool":
            return isinstance(value, dict) and all(isinstance(item, bool) for item in value.values())
        case _:
            return isinstance(value, str)


def _mismatch(value: Any, kind: str, path: str, wanted: str) -> str:
    words = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return f"json: cannot unmarshal {words.get(type(value), 'value')} into Go struct field {kind}.{path} of type {wanted}"


def to_latest(document: dict[str, Any], version: str) -> dict[str, Any]:
    """A checked document in v1beta4's form (upstream: apis/kubeadm/v1beta3/conversion.go)."""
    document = {**document, "apiVersion": f"{GROUP}/{LATEST}"}
    if version == LATEST:
        return document
    timeouts = dict(document.get("timeouts") or {})
    if document["kind"] == "ClusterConfiguration":
        for name in ("apiServer", "controllerManager", "scheduler"):
            if document.get(name):
                document[name] = _listed(document[name], "extraArgs")
        # v1beta4 has this one among InitConfiguration's timeouts.
        if document.get("apiServer"):
            document["apiServer"].pop("timeoutForControlPlane", None)
        local = (document.get("etcd") or {}).get("local")
        if local:
            document["etcd"] = {**document["etcd"], "local": _listed(local, "extraArgs")}
    else:
        if document.get("nodeRegistration"):
            document["nodeRegistration"] = _listed(document["nodeRegistration"], "kubeletExtraArgs")
        discovery = dict(document.get("discovery") or {})
        if "timeout" in discovery:
            timeouts["discovery"] = discovery.pop("timeout")
            document["discovery"] = discovery
    return document | ({"timeouts": timeouts} if timeouts else {})


def _listed(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """A map of flags as the list that v1beta4 wants."""
    if not fields.get(name):
        return dict(fields)
    return {**fields, name: [{"name": key, "value": value} for key, value in sorted(fields[name].items())]}
