"""Gives every node its pod CIDRs and takes them back when it is deleted."""

from typing import Any

from kubette.apimachinery import meta
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.rest import FAILURES, PatchType
from kubette.component_base.run import StartupError
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.node_ipam import plan

Object = dict[str, Any]


class NodeIPAMController:
    def __init__(self, context: Context) -> None:
        options = context.options
        self._client = context.client_of("node-controller")
        self._recorder = context.recorder("cidrAllocator", self._client)
        try:
            self._sets = plan.cidr_sets(options.cluster_cidr, options.service_cluster_ip_range, _mask_sizes(options))
        except plan.CIDRError as error:
            raise StartupError(str(error)) from None
        self._nodes = context.informer(resources.NODES)
        self._given: dict[str, list[str]] = {}  # by node name; decided, though perhaps not in the cache yet
        # One worker: subnets are handed out one after the other.
        self._controller = context.controller("node_ipam", self.reconcile, (self._nodes,), workers=1)
        self._nodes.add_handler(Handler(self._note, lambda _, new: self._note(new), self._deleted))

    async def run(self) -> None:
        await self._controller.run()

    def _note(self, node: Object) -> None:
        """Occupy what a node has before anything is allocated: the queue is only worked on after the first list."""
        cidrs = plan.pod_cidrs(objects.spec(node))
        if cidrs:
            if self._given.get(meta.name(node)) != cidrs:
                self._given[meta.name(node)] = cidrs
                plan.occupy_all(self._sets, cidrs)
        elif not meta.is_being_deleted(node):
            self._controller.enqueue(node)

    def _deleted(self, node: Object) -> None:
        plan.release_all(self._sets, self._given.pop(meta.name(node), []))

    async def reconcile(self, name: str) -> Result:
        node = self._nodes.get(name)
        if node is None or plan.pod_cidrs(objects.spec(node)):
            return DONE
        cidrs = self._given.get(name) or plan.allocate_all(self._sets)
        if cidrs is None:
            message = f"Node {name} status is now: CIDRNotAvailable"
            self._recorder.event({"kind": "Node", "name": name, "uid": name}, events.NORMAL, "CIDRNotAvailable", message)
            raise plan.CIDRError("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")
        self._given[name] = cidrs
        try:
            await self._client.patch(resources.NODES, "", name, {"spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}}, PatchType.STRATEGIC)
        except FAILURES as error:
            # Only a refusal is known to have had no effect; otherwise the same subnets are tried again.
            if error.definite:
                plan.release_all(self._sets, self._given.pop(name, []))
            raise
        return DONE


def _mask_sizes(options: Any) -> dict[int, int]:
    sizes = dict(plan.DEFAULT_MASK_SIZES)
    if options.node_cidr_mask_size:
        sizes = dict.fromkeys(sizes, options.node_cidr_mask_size)
    if options.node_cidr_mask_size_ipv4:
        sizes[4] = options.node_cidr_mask_size_ipv4
    if options.node_cidr_mask_size_ipv6:
        sizes[6] = options.node_cidr_mask_size_ipv6
    return sizes
