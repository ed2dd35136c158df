"""The three APIs that metrics come from; none is built in, an APIService brings each (upstream: podautoscaler/metrics/client.go)."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from kubette.apimachinery import meta, quantity, selectors, timestamps
from kubette.client.rest import FAILURES, Client
from kubette.component_base.flags import parse_duration
from kubette.kube_controller_manager.horizontal.replicas import NoMetrics, Value
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]

_RESOURCES = "metrics.k8s.io"
_CUSTOM, _CUSTOM_VERSION = "custom.metrics.k8s.io", "v1beta2"
_EXTERNAL, _EXTERNAL_VERSION = "external.metrics.k8s.io", "v1beta1"


class Metrics:
    """Every question raises NoMetrics with upstream's text when there is no answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of_pods(self, namespace: str, selector: str, resource: str, container: str = "") -> dict[str, Value]:
        """What each pod uses of a resource, in one container or in all."""
        items = await self._items(f"/apis/{_RESOURCES}/v1beta1/namespaces/{namespace}/pods", {"labelSelector": selector}, "resource")
        found = {}
        for item in items:
            used = {one["name"]: one.get("usage") or {} for one in item.get("containers") or ()}
            chosen = [used[container]] if container in used else [] if container else list(used.values())
            if not chosen or any(resource not in usage for usage in chosen):
                continue  # A pod of which a part is unknown is unknown.
            total = sum(quantity.parse(usage[resource]).milli_value for usage in chosen)
            found[item["metadata"]["name"]] = Value(total, timestamps.parse_time(item["timestamp"]), _seconds(item.get("window")))
        if not found:
            raise NoMetrics("no metrics returned from resource metrics API")
        return found

    async def of_pods_by_name(self, namespace: str, selector: str, metric: Object) -> dict[str, Value]:
        path = f"/apis/{_CUSTOM}/{_CUSTOM_VERSION}/namespaces/{namespace}/pods/*/{quote(metric['name'], safe='')}"
        items = await self._items(path, {"labelSelector": selector, **_metric_selector(metric, "metricLabelSelector")}, "custom")
        if not items:
            raise NoMetrics("no metrics returned from custom metrics API")
        return {
            item["describedObject"]["name"]: Value(quantity.parse(item["value"]).milli_value, timestamps.parse_time(item["timestamp"]))
            for item in items
        }

    async def of_object(self, namespace: str, group_resource: str, name: str, metric: Object) -> int:
        """In milli-units."""
        path = f"/apis/{_CUSTOM}/{_CUSTOM_VERSION}/namespaces/{namespace}/{group_resource}/{quote(name)}/{quote(metric['name'], safe='')}"
        items = await self._items(path, _metric_selector(metric, "metricLabelSelector"), "custom")
        if not items:
            raise NoMetrics("no metrics returned from custom metrics API")
        return quantity.parse(items[0]["value"]).milli_value

    async def external(self, namespace: str, metric: Object) -> int:
        """The sum of all series, in milli-units."""
        path = f"/apis/{_EXTERNAL}/{_EXTERNAL_VERSION}/namespaces/{namespace}/{quote(metric['name'], safe='')}"
        items = await self._items(path, _metric_selector(metric, "labelSelector"), "external")
        if not items:
            raise NoMetrics("no metrics returned from external metrics API")
        return sum(quantity.parse(item["value"]).milli_value for item in items)

    async def _items(self, path: str, params: dict[str, str], api: str) -> Sequence[Object]:
        try:
            answer = await self._client.request("GET", path, {k: v for k, v in params.items() if v})
        except FAILURES as error:
            raise NoMetrics(f"unable to fetch metrics from {api} metrics API: {error}") from error
        return list(answer.get("items") or ())


def _metric_selector(metric: Object, parameter: str) -> dict[str, str]:
    return {parameter: selectors.format_label_selector(metric["selector"])} if metric.get("selector") else {}


def _seconds(window: Any) -> float:
    try:
        return parse_duration(str(window)) or 60.0
    except ValueError:
        return 60.0


def ready_count(pods: Sequence[Object]) -> int:
    """Pure: what a metric of the whole is shared by."""
    return sum((pod.get("status") or {}).get("phase") == "Running" and meta.is_condition_true(pod, "Ready") and bool(spec(pod)) for pod in pods)
