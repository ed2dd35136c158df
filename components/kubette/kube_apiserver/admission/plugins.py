"""The admission plugins by name, and which of them are on (upstream: pkg/kubeapiserver/options/plugins.go)."""

import random
from collections.abc import Sequence

from kubette.component_base.run import StartupError
from kubette.kube_apiserver.admission.grants import CertificateSigners, EscalationCheck
from kubette.kube_apiserver.admission.interfaces import Chain, Lister, Plugin
from kubette.kube_apiserver.admission.limits import LimitRanger, ResourceQuota
from kubette.kube_apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kubette.kube_apiserver.admission.nodes import NodeRestriction, TaintNodesByCondition
from kubette.kube_apiserver.admission.pods import DefaultTolerationSeconds, Priority, ServiceAccount
from kubette.kube_apiserver.admission.storage_objects import DefaultStorageClass, StorageObjectInUseProtection
from kubette.kube_apiserver.auth.interfaces import Authorizer
from kubette.kube_apiserver.auth.rbac import Rbac

# In upstream's recommended order. What upstream has beyond these (webhooks, PodSecurity, …) is refused by name until it exists here.
ORDER = (
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "Priority",
    "DefaultTolerationSeconds",
    "StorageObjectInUseProtection",
    "CertificateApproval",
    "DefaultStorageClass",
    "ResourceQuota",
)
OFF_BY_DEFAULT = frozenset({"NodeRestriction"})


def build(lister: Lister, authorizer: Authorizer, rbac: Rbac | None, enable: Sequence[str], disable: Sequence[str]) -> Chain:
    """The chain for --enable-admission-plugins and --disable-admission-plugins. Raises StartupError for an unknown name."""
    for flag, names in (("enable", enable), ("disable", disable)):
        for name in names:
            if name not in ORDER:
                raise StartupError(f'{flag}-admission-plugins plugin "{name}" is unknown')
    both = sorted(set(enable) & set(disable))
    if both:
        raise StartupError(f"{both} in enable-admission-plugins and disable-admission-plugins overlapped")
    on = {name for name in ORDER if (name not in OFF_BY_DEFAULT or name in enable) and name not in disable}
    plugins: dict[str, Plugin] = {
        "NamespaceLifecycle": NamespaceLifecycle(lister),
        "LimitRanger": LimitRanger(lister),
        "ServiceAccount": ServiceAccount(lister, random.Random()),
        "NodeRestriction": NodeRestriction(lister),
        "TaintNodesByCondition": TaintNodesByCondition(),
        "Priority": Priority(lister),
        "DefaultTolerationSeconds": DefaultTolerationSeconds(),
        "StorageObjectInUseProtection": StorageObjectInUseProtection(),
        "CertificateApproval": CertificateSigners(authorizer),
        "DefaultStorageClass": DefaultStorageClass(lister),
        "ResourceQuota": ResourceQuota(lister),
    }
    chain = [plugins[name] for name in ORDER if name in on]
    # Not an option upstream either: where RBAC decides, nobody may grant more than he has.
    return Chain([*chain, EscalationCheck(rbac, authorizer)] if rbac is not None else chain)
