"""Pure: which strategy serves which resource."""

from kubette.api.kinds import Kind
from kubette.kube_apiserver.registry import access_strategies as access
from kubette.kube_apiserver.registry import core_strategies as core
from kubette.kube_apiserver.registry import network_strategies as network
from kubette.kube_apiserver.registry import pod_strategy, service_strategy
from kubette.kube_apiserver.registry import workload_strategies as workloads
from kubette.kube_apiserver.registry.strategy import Strategy

_STRATEGIES: dict[str, type[Strategy]] = {
    "configmaps": core.ConfigMapStrategy,
    "endpoints": core.EndpointsStrategy,
    "events": core.EventStrategy,
    "limitranges": core.LimitRangeStrategy,
    "namespaces": core.NamespaceStrategy,
    "nodes": core.NodeStrategy,
    "persistentvolumeclaims": core.PersistentVolumeClaimStrategy,
    "persistentvolumes": core.PersistentVolumeStrategy,
    "pods": pod_strategy.PodStrategy,
    "podtemplates": pod_strategy.PodTemplateStrategy,
    "replicationcontrollers": workloads.ReplicationControllerStrategy,
    "resourcequotas": core.ResourceQuotaStrategy,
    "secrets": core.SecretStrategy,
    "services": service_strategy.ServiceStrategy,
    "controllerrevisions.apps": workloads.ControllerRevisionStrategy,
    "daemonsets.apps": workloads.DaemonSetStrategy,
    "deployments.apps": workloads.DeploymentStrategy,
    "replicasets.apps": workloads.ReplicaSetStrategy,
    "statefulsets.apps": workloads.StatefulSetStrategy,
    "cronjobs.batch": workloads.CronJobStrategy,
    "jobs.batch": workloads.JobStrategy,
    "horizontalpodautoscalers.autoscaling": network.HorizontalPodAutoscalerStrategy,
    "poddisruptionbudgets.policy": network.PodDisruptionBudgetStrategy,
    "certificatesigningrequests.certificates.k8s.io": access.CertificateSigningRequestStrategy,
    "clusterrolebindings.rbac.authorization.k8s.io": access.RoleBindingStrategy,
    "clusterroles.rbac.authorization.k8s.io": access.RoleStrategy,
    "rolebindings.rbac.authorization.k8s.io": access.RoleBindingStrategy,
    "roles.rbac.authorization.k8s.io": access.RoleStrategy,
    "apiservices.apiregistration.k8s.io": access.APIServiceStrategy,
    "leases.coordination.k8s.io": access.LeaseStrategy,
    "endpointslices.discovery.k8s.io": network.EndpointSliceStrategy,
    "ingressclasses.networking.k8s.io": network.IngressClassStrategy,
    "ingresses.networking.k8s.io": network.IngressStrategy,
    "ipaddresses.networking.k8s.io": network.IPAddressStrategy,
    "networkpolicies.networking.k8s.io": network.NetworkPolicyStrategy,
    "servicecidrs.networking.k8s.io": network.ServiceCIDRStrategy,
    "priorityclasses.scheduling.k8s.io": access.PriorityClassStrategy,
    "csidrivers.storage.k8s.io": network.CSIDriverStrategy,
    "csistoragecapacities.storage.k8s.io": network.CSIStorageCapacityStrategy,
    "storageclasses.storage.k8s.io": network.StorageClassStrategy,
    "volumeattachments.storage.k8s.io": network.VolumeAttachmentStrategy,
}


def strategy_for(kind: Kind) -> Strategy:
    """The strategy of a stored kind; kinds without peculiarities (service accounts, reviews) get the common one."""
    return _STRATEGIES.get(kind.group_resource, Strategy)(kind)
