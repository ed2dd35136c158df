"""`pods/eviction`: a delete that asks the PodDisruptionBudgets first (upstream's eviction REST).

The budget is decremented by compare-and-swap before the pod is deleted, so that two drains cannot spend it twice.
"""

from dataclasses import replace
from typing import Any

from kubette.apimachinery import meta, selectors, status
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import body, delete, options, render

Object = dict[str, Any]

DISRUPTED_PODS_MAX = 2000  # upstream's MaxDisruptedPodSize


async def create(call: Call) -> Answer:
    schema = call.core.resources.schemas.for_gvk("policy", "v1", "Eviction")
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    eviction = await body.read_object(call, "policy/v1", "Eviction", schema, opts.validation)
    if meta.name(eviction) and meta.name(eviction) != call.info.name:
        raise status.bad_request("name in URL does not match name in Eviction object")
    deleting = delete.parse_options(eviction.get("deleteOptions") or {})
    deleting = replace(deleting, dry_run=deleting.dry_run or opts.dry_run)
    store = call.resource.store
    assert store is not None
    pod = (await store.get(call.info.namespace, call.info.name)).object()
    delete.check_preconditions(call, pod, deleting)
    if not can_ignore_budget(pod):
        budgets = await _budgets_of(call, pod)
        if len(budgets) > 1:
            raise status.internal("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
        if budgets:
            await _spend(call, budgets[0], pod, deleting.dry_run)
    await delete.delete(call, deleting)
    return render.plain(call, status.success(), 201)


def can_ignore_budget(pod: Object) -> bool:
    """Pods that are finished, not started or being deleted disrupt nothing."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed", "Pending") or meta.is_being_deleted(pod)


async def _budgets_of(call: Call, pod: Object) -> list[Object]:
    found = await call.core.lister.list("policy", "poddisruptionbudgets", meta.namespace(pod))
    return [one for one in found if selectors.from_label_selector((one.get("spec") or {}).get("selector")).matches(meta.labels(pod))]


def is_ready(pod: Object) -> bool:
    return meta.is_condition_true(pod, "Ready")


async def _spend(call: Call, budget: Object, pod: Object, dry_run: bool) -> None:
    """Take one disruption from the budget. Raises TooManyRequests when there is none."""
    resource = call.core.resources.by_group("policy", "poddisruptionbudgets")
    assert resource is not None
    store = resource.store
    assert store is not None

    async def change(pdb: Object) -> Object | Remove:
        current = pdb.setdefault("status", {})
        name = meta.name(pdb)
        healthy, desired = current.get("currentHealthy", 0), current.get("desiredHealthy", 0)
        if not is_ready(pod):
            # An unhealthy pod protects nothing: it may go when the policy says so, or while the budget is met without it.
            policy = (pdb.get("spec") or {}).get("unhealthyPodEvictionPolicy", "IfHealthyBudget")
            if policy == "AlwaysAllow" or (healthy >= desired and desired > 0):
                return pdb
        if current.get("observedGeneration", 0) < meta.generation(pdb):
            raise status.too_many_requests(f"Cannot evict pod as it would violate the pod's disruption budget: {name} is still being processed", 10)
        if current.get("disruptionsAllowed", 0) < 0:
            raise status.forbidden("poddisruptionbudgets.policy", name, "pdb disruptions allowed is negative")
        if current.get("disruptionsAllowed", 0) == 0:
            raise status.eviction_blocked(name, f"needs {desired} healthy pods and has {healthy} currently")
        disrupted = current.setdefault("disruptedPods", {})
        if len(disrupted) > DISRUPTED_PODS_MAX:
            raise status.forbidden(
                "poddisruptionbudgets.policy", name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
            )
        current["disruptionsAllowed"] -= 1
        disrupted[meta.name(pod)] = call.core.now()
        return pdb

    if dry_run:
        found = await store.get(meta.namespace(budget), meta.name(budget))
        await change(found.object())
        return
    await store.update(meta.namespace(budget), meta.name(budget), change)
