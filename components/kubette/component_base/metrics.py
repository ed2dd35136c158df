"""Counters, gauges and histograms in the Prometheus text format (exposition format 0.0.4).

A `Registry` belongs to one process and is built in `app.py`; nothing is registered by import.
"""

import bisect
from collections.abc import Callable, Sequence
from typing import Protocol

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(names: Sequence[str], values: Sequence[str], extra: str = "") -> str:
    parts = [f'{n}="{_escape(v)}"' for n, v in zip(names, values, strict=True)]
    if extra:
        parts.append(extra)
    return "{" + ",".join(parts) + "}" if parts else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


class Counter:
    """A value per label set that only grows; `Gauge` may also fall."""

    kind = "counter"

    def __init__(self, name: str, help: str, label_names: Sequence[str] = ()) -> None:
        self.name, self.help, self.label_names = name, help, tuple(label_names)
        self._values: dict[tuple[str, ...], float] = {} if label_names else {(): 0.0}

    def inc(self, *label_values: str, by: float = 1.0) -> None:
        self._values[label_values] = self._values.get(label_values, 0.0) + by

    def value(self, *label_values: str) -> float:
        return self._values.get(label_values, 0.0)

    def render(self) -> list[str]:
        return [f"{self.name}{_labels(self.label_names, k)} {_number(v)}" for k, v in sorted(self._values.items())]


class Gauge(Counter):
    kind = "gauge"

    def set(self, value: float, *label_values: str) -> None:
        self._values[label_values] = value


class Function:
    """A gauge or counter whose value is asked for when it is scraped."""

    def __init__(self, name: str, help: str, read: Callable[[], float], kind: str = "gauge") -> None:
        self.name, self.help, self.kind, self._read = name, help, kind, read

    def render(self) -> list[str]:
        return [f"{self.name} {_number(self._read())}"]


class Histogram:
    kind = "histogram"

    def __init__(self, name: str, help: str, label_names: Sequence[str] = (), buckets: Sequence[float] = DEFAULT_BUCKETS) -> None:
        self.name, self.help, self.label_names, self.buckets = name, help, tuple(label_names), tuple(buckets)
        # One count a bucket, +Inf, then the sum; without labels there is one series, from the beginning.
        self._series: dict[tuple[str, ...], list[float]] = {} if label_names else {(): [0.0] * (len(self.buckets) + 2)}

    def observe(self, value: float, *label_values: str) -> None:
        series = self._series.get(label_values)
        if series is None:
            series = self._series[label_values] = [0.0] * (len(self.buckets) + 2)
        series[bisect.bisect_left(self.buckets, value)] += 1
        series[-1] += value

    def render(self) -> list[str]:
        lines = []
        for key, series in sorted(self._series.items()):
            total = 0.0
            for bound, count in zip([*map(str, self.buckets), "+Inf"], series[:-1], strict=True):
                total += count
                le = f'le="{bound}"'
                lines.append(f"{self.name}_bucket{_labels(self.label_names, key, le)} {_number(total)}")
            lines.append(f"{self.name}_sum{_labels(self.label_names, key)} {_number(series[-1])}")
            lines.append(f"{self.name}_count{_labels(self.label_names, key)} {_number(total)}")
        return lines


class Metric(Protocol):
    """Anything that can be scraped: a name, a help line, a kind, and the sample lines."""

    @property
    def name(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def render(self) -> list[str]: ...


class Registry:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def add(self, metric: Metric) -> None:
        """Register a metric of the process's own making."""
        assert metric.name not in self._metrics, f"metric registered twice: {metric.name}"
        self._metrics[metric.name] = metric

    def counter(self, name: str, help: str, label_names: Sequence[str] = ()) -> Counter:
        metric = Counter(name, help, label_names)
        self.add(metric)
        return metric

    def gauge(self, name: str, help: str, label_names: Sequence[str] = ()) -> Gauge:
        metric = Gauge(name, help, label_names)
        self.add(metric)
        return metric

    def function(self, name: str, help: str, read: Callable[[], float], kind: str = "gauge") -> None:
        self.add(Function(name, help, read, kind))

    def histogram(self, name: str, help: str, label_names: Sequence[str] = (), buckets: Sequence[float] = DEFAULT_BUCKETS) -> Histogram:
        metric = Histogram(name, help, label_names, buckets)
        self.add(metric)
        return metric

    def render(self) -> str:
        """The body of `/metrics`."""
        lines: list[str] = []
        for name in sorted(self._metrics):
            metric = self._metrics[name]
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}", *metric.render()]
        return "\n".join(lines) + "\n"
