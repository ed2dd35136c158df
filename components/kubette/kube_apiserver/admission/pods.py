"""What admission adds to Pods: service account and its token volume, priority, tolerations of an unreachable node."""

import random
from typing import Any

from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Lister, Operation, Plugin, forbidden

_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_LIFETIME_S = 3607  # upstream's value: recognisable, and an hour with a margin
_NOT_READY, _UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
_DEFAULT_TOLERATION_S = 300
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


def is_mirror(pod: dict[str, Any]) -> bool:
    return MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {})


class _OnPodCreate(Plugin):
    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.operation is Operation.create and attrs.resource == "pods" and not attrs.group and not attrs.subresource


class ServiceAccount(_OnPodCreate):
    """Every Pod runs as a ServiceAccount that exists, and gets its token unless somebody said no."""

    name = "ServiceAccount"

    def __init__(self, lister: Lister, rng: random.Random) -> None:
        self._lister, self._rng = lister, rng

    async def admit(self, attrs: AdmissionAttributes) -> None:
        pod = attrs.object
        assert pod is not None
        if is_mirror(pod):
            if (pod["spec"]).get("serviceAccountName"):
                raise forbidden(attrs, "a mirror pod may not reference service accounts")
            return
        spec = pod["spec"]
        name = spec.setdefault("serviceAccountName", "") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._lister.get("", "serviceaccounts", attrs.namespace, name)
        if account is None:
            raise forbidden(attrs, f'error looking up service account {attrs.namespace}/{name}: serviceaccount "{name}" not found')
        if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = list(account["imagePullSecrets"])

    def _mount_token(self, spec: dict[str, Any]) -> None:
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        wanting = [c for c in containers if all(m.get("mountPath") != _TOKEN_PATH for m in c.get("volumeMounts") or ())]
        if not wanting:
            return
        volume = "kube-api-access-" + "".join(self._rng.choices(_SUFFIX_ALPHABET, k=5))
        for container in wanting:
            container.setdefault("volumeMounts", []).append({"mountPath": _TOKEN_PATH, "name": volume, "readOnly": True})
        sources = [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_LIFETIME_S, "path": "token"}},
            {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
        ]
        spec.setdefault("volumes", []).append({"name": volume, "projected": {"defaultMode": 420, "sources": sources}})


class Priority(_OnPodCreate):
    """Resolves priorityClassName to a number, or to the global default."""

    name = "Priority"

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    async def admit(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        spec = attrs.object["spec"]
        name = spec.get("priorityClassName", "")
        if name:
            found = await self._lister.get("scheduling.k8s.io", "priorityclasses", "", name)
            if found is None:
                raise forbidden(attrs, f"no PriorityClass with name {name} was found")
        else:
            classes = await self._lister.list("scheduling.k8s.io", "priorityclasses")
            found = min((c for c in classes if c.get("globalDefault")), key=lambda c: c["value"], default=None)
            if found is not None:
                spec["priorityClassName"] = found["metadata"]["name"]
        value = found["value"] if found else 0
        if spec.get("priority") not in (None, value):
            raise forbidden(
                attrs,
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
            )
        spec["priority"] = value
        policy = (found or {}).get("preemptionPolicy", "PreemptLowerPriority")
        if spec.setdefault("preemptionPolicy", policy) != policy:
            raise forbidden(
                attrs,
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name",
            )


class DefaultTolerationSeconds(_OnPodCreate):
    """A Pod stays five minutes on a node that is not ready or unreachable, unless it says otherwise."""

    name = "DefaultTolerationSeconds"

    async def admit(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        tolerations = attrs.object["spec"].setdefault("tolerations", [])
        for key in (_NOT_READY, _UNREACHABLE):
            if not any(t.get("key") in (key, None, "") and t.get("effect") in ("NoExecute", None, "") for t in tolerations):
                tolerations.append({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": _DEFAULT_TOLERATION_S})
        if not tolerations:
            del attrs.object["spec"]["tolerations"]
