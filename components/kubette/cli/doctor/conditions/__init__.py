"""Pure: the doctor's table. Its order goes from causes to effects: what a stopped machine brings about stands below it."""

from kubette.cli.doctor.conditions import certificates, control_plane, etcd, machines, nodes, pods, static_pods, workloads
from kubette.cli.doctor.finding import Condition

TABLE: tuple[Condition, ...] = (
    *machines.CONDITIONS,
    *static_pods.CONDITIONS,
    *certificates.CONDITIONS,
    *etcd.CONDITIONS,
    *control_plane.CONDITIONS,
    *nodes.CONDITIONS,
    *workloads.CONDITIONS,
    *pods.CONDITIONS,
)
