"""Every 15 s, for each autoscaler: ask for its metrics, propose, tame the change, write the target's scale, and say what was done and why."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kubette.apimachinery import meta, quantity, selectors, timestamps
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.discovery import Discovery, discover
from kubette.client.informer import Handler
from kubette.client.resources import Resource
from kubette.client.rest import FAILURES
from kubette.component_base import logs
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.horizontal import behavior, replicas
from kubette.kube_controller_manager.horizontal.metrics import Metrics, ready_count
from kubette.kube_controller_manager.horizontal.replicas import NoMetrics, Proposal

Object = dict[str, Any]

log = logs.logger(__name__)

_HELD = {
    "ScaleUpStabilized": "recent recommendations were lower than current one, applying the lowest recent recommendation",
    "ScaleDownStabilized": "recent recommendations were higher than current one, applying the highest recent recommendation",
}


class Failed(Exception):
    """One metric could not be had: reason of the event, its message, and what the count's failure says."""

    def __init__(self, reason: str, cause: str, said: str) -> None:
        super().__init__(said)
        self.reason, self.cause = reason, cause


class HorizontalController:
    def __init__(self, context: Context) -> None:
        options = context.options
        self.client = context.client_of("horizontal-pod-autoscaler")
        self.recorder = context.recorder("horizontal-pod-autoscaler", self.client)
        self.clock = context.clock
        self._period_s = options.horizontal_pod_autoscaler_sync_period
        self.downscale_s = options.horizontal_pod_autoscaler_downscale_stabilization
        self.settings = replicas.Settings(
            cpu_initialization_s=options.horizontal_pod_autoscaler_cpu_initialization_period,
            initial_readiness_s=options.horizontal_pod_autoscaler_initial_readiness_delay,
            tolerance=options.horizontal_pod_autoscaler_tolerance,
        )
        self.metrics = Metrics(self.client)
        self._autoscalers = context.informer(resources.HORIZONTALPODAUTOSCALERS)
        self.pods = context.informer(resources.PODS)
        self.histories: dict[str, behavior.History] = {}
        self.selectors: dict[str, selectors.Selector] = {}
        self._discovery = Discovery()
        caches = (self._autoscalers, self.pods)
        self._controller = context.controller("horizontalpodautoscaler", self.reconcile, caches, options.concurrent_horizontal_pod_autoscaler_syncs)
        enqueue = self._controller.enqueue
        self._autoscalers.add_handler(Handler(enqueue, self._updated, self._deleted))

    def _updated(self, old: Object, new: Object) -> None:
        if old["spec"] != new["spec"]:
            self._controller.enqueue(new)

    def _deleted(self, autoscaler: Object) -> None:
        self.histories.pop(meta.key(autoscaler), None)
        self.selectors.pop(meta.key(autoscaler), None)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        autoscaler = self._autoscalers.get(key)
        if autoscaler is None:
            return DONE
        await _Round(self, autoscaler).run()
        return Result(self._period_s)

    # What a round asks for

    async def resource_of(self, api_version: str, kind: str) -> Resource:
        """Raises NoMetrics for a kind that the server does not have."""
        found = self._discovery.by_kind(api_version, kind)
        if found is None:
            self._discovery = await discover(self.client)
            found = self._discovery.by_kind(api_version, kind)
        if found is None:
            raise NoMetrics(f'no matches for kind "{kind}" in version "{api_version}"')
        return found


class _Round:
    """One look at one autoscaler."""

    def __init__(self, controller: HorizontalController, autoscaler: Object) -> None:
        self._of, self._autoscaler, self._spec = controller, autoscaler, autoscaler["spec"]
        self._namespace, self._key = meta.namespace(autoscaler), meta.key(autoscaler)
        self._now = controller.clock.wall()
        self._conditions: list[Object] = list(objects.status(autoscaler).get("conditions") or ())
        self._current_metrics: list[Object | None] = []
        self._selector = ""
        self._pods: list[Object] = []

    async def run(self) -> None:
        of, reference = self._of, self._spec["scaleTargetRef"]
        try:
            resource = await of.resource_of(reference.get("apiVersion") or "v1", reference["kind"])
            scale = await of.client.get(resource, self._namespace, reference["name"], "scale")
        except (*FAILURES, NoMetrics) as error:
            self._tell("Warning", "FailedGetScale", str(error))
            self._set("AbleToScale", "False", "FailedGetScale", f"the HPA controller was unable to get the target's current scale: {error}")
            await self._write(
                objects.status(self._autoscaler).get("currentReplicas") or 0, objects.status(self._autoscaler).get("desiredReplicas") or 0
            )
            return
        self._set("AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale")
        current = int(objects.spec(scale).get("replicas") or 0)
        desired, why = current, ""
        low, high = self._spec.get("minReplicas", 1), self._spec["maxReplicas"]
        if current == 0 and low != 0:
            self._set("ScalingActive", "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
        elif current > high:
            desired, why = high, "Current number of replicas above Spec.MaxReplicas"
        elif current < low:
            desired, why = low, "Current number of replicas below Spec.MinReplicas"
        else:
            try:
                desired, why = await self._desired(scale, current)
            except Failed as failure:
                self._tell("Warning", "FailedComputeMetricsReplicas", str(failure))
                await self._write(current, objects.status(self._autoscaler).get("desiredReplicas") or 0)
                return
        if desired != current:
            changed = {**scale, "spec": {**objects.spec(scale), "replicas": desired}}
            try:
                await of.client.request("PUT", resource.path(self._namespace, reference["name"], "scale"), body=changed)
            except FAILURES as error:
                self._tell("Warning", "FailedRescale", f"New size: {desired}; reason: {why}; error: {error}")
                self._set("AbleToScale", "False", "FailedUpdateScale", f"the HPA controller was unable to update the target scale: {error}")
                await self._write(current, current)
                return
            self._set("AbleToScale", "True", "SucceededRescale", f"the HPA controller was able to update the target scale to {desired}")
            self._tell("Normal", "SuccessfulRescale", f"New size: {desired}; reason: {why}")
            self._history.changes = [(at, n) for at, n in self._history.changes if at > self._now - 3600] + [(self._now, desired - current)]
            log.info("Successfully rescaled", HPA=self._key, currentReplicas=current, desiredReplicas=desired, reason=why)
        await self._write(current, desired, scaled=desired != current)

    @property
    def _history(self) -> behavior.History:
        return self._of.histories.setdefault(self._key, behavior.History())

    async def _desired(self, scale: Object, current: int) -> tuple[int, str]:
        """After all metrics, windows and policies. Raises Failed when no metric can be had, or one is missing that might forbid to shrink."""
        self._find_pods(scale)
        best, because, failures = -1, "", []
        for metric in self._spec.get("metrics") or ():
            try:
                proposal, name, shown = await self._propose(metric, current, scale)
            except Failed as failure:
                failures.append(failure)
                self._current_metrics.append(None)
                continue
            self._current_metrics.append(shown)
            if proposal.replicas > best:
                best, because = proposal.replicas, name
        count = len(self._spec.get("metrics") or ())
        if failures and (best < 0 or best < current):
            first = failures[0]
            self._tell("Warning", first.reason, first.cause)
            self._set("ScalingActive", "False", first.reason, f"the HPA was unable to compute the replica count: {first.cause}")
            raise Failed(first.reason, first.cause, f"invalid metrics ({len(failures)} invalid out of {count}), first error is: {first}")
        self._set("ScalingActive", "True", "ValidMetricFound", f"the HPA was able to successfully calculate a replica count from {because}")
        outcome = behavior.normalize(self._spec, self._history, current, best, self._now, self._of.downscale_s)
        if outcome.stabilized:
            self._set("AbleToScale", "True", outcome.stabilized, _HELD[outcome.stabilized])
        else:
            self._set("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size")
        self._set("ScalingLimited", "True" if outcome.limited else "False", *outcome.limit)
        return outcome.replicas, f"{because} above target" if outcome.replicas > current else "All metrics below target"

    def _find_pods(self, scale: Object) -> None:
        """Raises Failed for a target that does not say which pods are its own, or shares them with another autoscaler."""
        self._selector = objects.status(scale).get("selector") or ""
        if not self._selector:
            said = "selector is required"
            self._set("ScalingActive", "False", "InvalidSelector", "the HPA target's scale is missing a selector")
            raise Failed("SelectorRequired", said, said)
        chosen = selectors.parse_label_selector(self._selector)
        known = self._of.selectors
        known[self._key] = chosen
        self._pods = [pod for pod in self._of.pods.list() if meta.namespace(pod) == self._namespace and chosen.matches(meta.labels(pod))]
        sharing = [
            key for key, other in known.items() if key.startswith(f"{self._namespace}/") and any(other.matches(meta.labels(p)) for p in self._pods)
        ]
        if len(sharing) > 1:
            said = f"pods by selector {self._selector} are controlled by multiple HPAs: [{' '.join(sorted(sharing))}]"
            self._set("ScalingActive", "False", "AmbiguousSelector", said)
            raise Failed("AmbiguousSelector", said, said)

    async def _propose(self, metric: Object, current: int, scale: Object) -> tuple[Proposal, str, Object]:
        """(proposal, what it is called in events, what the status shows). Raises Failed."""
        kind = metric["type"]
        source = metric[kind[0].lower() + kind[1:]]
        try:
            match kind:
                case "Resource" | "ContainerResource":
                    return await self._by_resource(kind, source, current)
                case "Pods":
                    return await self._by_pods(source, current, scale)
                case "Object":
                    return await self._by_object(source, current, scale)
                case _:
                    return await self._by_external(source, current, scale)
        except NoMetrics as error:
            reason = {"Resource": "Resource", "ContainerResource": "ContainerResource", "Pods": "Pods", "Object": "Object"}.get(kind, "External")
            said, cause = str(error), str(error)
            if kind in ("Resource", "ContainerResource"):
                # Two layers of upstream's words: the event has the inner one.
                utilization = source["target"].get("averageUtilization") is not None
                inner = f"unable to get metrics for resource {source['name']}: {cause}" if "metrics API" in cause else cause
                cause = f"failed to get {source['name']} {'utilization' if utilization else 'usage'}: {inner}"
                said = f"failed to get {source['name']} {'container ' if kind == 'ContainerResource' else ''}resource metric value: {cause}"
            elif kind == "Pods":
                cause = f"unable to get metric {source['metric']['name']}: {cause}"
                said = f"failed to get pods metric value: {cause}"
            else:
                cause = f"unable to get metric {source['metric']['name']}: {cause}"
                said = f"failed to get {'object' if kind == 'Object' else source['metric']['name'] + ' external'} metric value: {cause}"
            raise Failed(f"FailedGet{reason}Metric", cause, said) from error

    @property
    def _settings(self) -> replicas.Settings:
        return replace(self._of.settings, now=self._now)

    async def _by_resource(self, kind: str, source: Object, current: int) -> tuple[Proposal, str, Object]:
        name, container, target = source["name"], source.get("container", ""), source["target"]
        values = await self._of.metrics.of_pods(self._namespace, self._selector, name, container)
        prefix = f"{name} container resource" if kind == "ContainerResource" else f"{name} resource"
        shown: Object = {"name": name, **({"container": container} if container else {})}
        if target.get("averageUtilization") is not None:
            found = replicas.by_utilization(current, target["averageUtilization"], self._pods, values, name, self._settings, container)
            shown["current"] = {"averageUtilization": found.utilization, "averageValue": _amount(found.average_milli, name)}
            called = f"{prefix} utilization (percentage of request)"
        else:
            milli = quantity.parse(target["averageValue"]).milli_value
            found = replicas.by_average(current, milli, self._pods, values, name, self._settings)
            shown["current"] = {"averageValue": _amount(found.average_milli, name)}
            called = prefix
        return found, called, {"type": kind, kind[0].lower() + kind[1:]: shown}

    async def _by_pods(self, source: Object, current: int, scale: Object) -> tuple[Proposal, str, Object]:
        values = await self._of.metrics.of_pods_by_name(self._namespace, self._selector, source["metric"])
        milli = quantity.parse(source["target"]["averageValue"]).milli_value
        found = replicas.by_average(current, milli, self._pods, values, "", self._settings)
        shown = {"metric": source["metric"], "current": {"averageValue": _amount(found.average_milli)}}
        return found, f"pods metric {source['metric']['name']}", {"type": "Pods", "pods": shown}

    async def _by_object(self, source: Object, current: int, scale: Object) -> tuple[Proposal, str, Object]:
        described = source["describedObject"]
        resource = await self._of.resource_of(described.get("apiVersion") or "v1", described["kind"])
        value = await self._of.metrics.of_object(self._namespace, resource.group_resource, described["name"], source["metric"])
        found, now = self._by_whole(source["target"], value, current, scale)
        called = f"{described['kind']} metric {source['metric']['name']}"
        return found, called, {"type": "Object", "object": {"metric": source["metric"], "describedObject": described, "current": now}}

    async def _by_external(self, source: Object, current: int, scale: Object) -> tuple[Proposal, str, Object]:
        value = await self._of.metrics.external(self._namespace, source["metric"])
        found, now = self._by_whole(source["target"], value, current, scale)
        called = f"external metric {source['metric']['name']}({source['metric'].get('selector')})"
        return found, called, {"type": "External", "external": {"metric": source["metric"], "current": now}}

    def _by_whole(self, target: Object, value: int, current: int, scale: Object) -> tuple[Proposal, Object]:
        if target.get("averageValue") is not None:
            existing = int(objects.status(scale).get("replicas") or current)
            found = replicas.by_total_average(existing, value, quantity.parse(target["averageValue"]).milli_value, self._settings.tolerance)
            return found, {"averageValue": _amount(found.average_milli)}
        found = replicas.by_total(current, ready_count(self._pods), value, quantity.parse(target["value"]).milli_value, self._settings.tolerance)
        return found, {"value": _amount(value)}

    # What is said

    def _set(self, type: str, status: str, reason: str, message: str) -> None:
        stamp = timestamps.format_time(self._now)
        new = {"type": type, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp}
        old = objects.find_condition(self._conditions, type)
        if old is not None and old.get("status") == status:
            new["lastTransitionTime"] = old.get("lastTransitionTime", stamp)
        self._conditions = [new if one["type"] == type else one for one in self._conditions] if old is not None else [*self._conditions, new]

    def _tell(self, type: str, reason: str, message: str) -> None:
        body = {**self._autoscaler, "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
        self._of.recorder.event(body, type, reason, message)

    async def _write(self, current: int, desired: int, scaled: bool = False) -> None:
        status: Object = {
            **{k: v for k, v in objects.status(self._autoscaler).items() if k in ("lastScaleTime",)},
            "currentReplicas": current,
            "desiredReplicas": desired,
            "conditions": self._conditions,
            "currentMetrics": _shown(self._current_metrics),
        }
        if scaled:
            status["lastScaleTime"] = timestamps.format_time(self._now)
        if status != objects.status(self._autoscaler):
            await self._of.client.update(resources.HORIZONTALPODAUTOSCALERS, objects.with_status(self._autoscaler, status), "status")


def _shown(found: Sequence[Object | None]) -> list[Object] | None:
    """Upstream keeps a place for each metric, empty for those it could not get."""
    return [one if one is not None else {"type": ""} for one in found] or None


def _amount(milli: int, resource: str = "") -> str:
    """Memory is told in whole bytes, anything else to the thousandth."""
    return str(quantity.of(milli // 1000)) if resource == "memory" else str(quantity.of_milli(milli))
