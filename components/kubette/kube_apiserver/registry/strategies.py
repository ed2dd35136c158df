"""Pure: which strategy serves which resource."""

from kubette.api.kinds import Kind
from kubette.kube_apiserver.registry.strategy import Strategy

_STRATEGIES: dict[tuple[str, str], type[Strategy]] = {}


def strategy_for(kind: Kind) -> Strategy:
    """The strategy of a stored kind."""
    return _STRATEGIES.get((kind.group, kind.resource), Strategy)(kind)
