"""Pure: the plugins of `default-scheduler`, in upstream's order and with upstream's weights."""

from kubette.kube_scheduler.framework import Profile
from kubette.kube_scheduler.plugins.image_locality import ImageLocality
from kubette.kube_scheduler.plugins.inter_pod_affinity import InterPodAffinity
from kubette.kube_scheduler.plugins.node_placement import NodeAffinity, NodeName, NodePorts, NodeUnschedulable
from kubette.kube_scheduler.plugins.node_resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from kubette.kube_scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubette.kube_scheduler.plugins.taint_toleration import TaintToleration
from kubette.kube_scheduler.plugins.volume_binding import VolumeBinding


def profile() -> Profile:
    taints, affinity, fit = TaintToleration(), NodeAffinity(), NodeResourcesFit()
    spread, pods = PodTopologySpread(), InterPodAffinity()
    return Profile(
        filters=(NodeUnschedulable(), NodeName(), taints, affinity, NodePorts(), fit, VolumeBinding(), spread, pods),
        scorers=((taints, 3), (affinity, 2), (fit, 1), (spread, 2), (pods, 2), (NodeResourcesBalancedAllocation(), 1), (ImageLocality(), 1)),
    )
