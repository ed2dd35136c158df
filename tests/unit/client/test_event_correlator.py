"""Events: counted, combined, and limited, with upstream's numbers."""

from kubette.client.event_correlator import SPAM_BURST, Correlator


def event(message: str, name: str = "web.1", obj: str = "web") -> dict:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": obj, "namespace": "default", "uid": obj},
        "source": {"component": "kubelet", "host": "node01"},
        "type": "Normal",
        "reason": "Pulled",
        "message": message,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }


def test_the_same_event_again_raises_the_count_of_the_first() -> None:
    correlator = Correlator()
    first = correlator.correlate(event("a"), 0.0)
    again = correlator.correlate(event("a", name="web.2"), 1.0)
    assert first is not None
    assert again is not None
    assert first.patch is None
    assert again.event["metadata"]["name"] == "web.1"
    assert again.patch is not None
    assert again.patch["count"] == 2
    correlator.forget(again.key)
    fresh = correlator.correlate(event("a", name="web.3"), 2.0)
    assert fresh is not None
    assert fresh.patch is None


def test_ten_different_messages_of_one_reason_become_one_event() -> None:
    correlator = Correlator()
    messages = []
    for number in range(12):
        decision = correlator.correlate(event(f"m{number}", name=f"web.{number}"), float(number))
        assert decision is not None
        messages.append((decision.event["message"], decision.patch is not None))
    assert messages[8] == ("m8", False)
    assert messages[9] == ("(combined from similar events): m9", False)
    assert messages[10] == ("(combined from similar events): m10", True)


def test_one_object_cannot_flood_and_others_are_not_hurt_by_it() -> None:
    correlator = Correlator()
    sent = [correlator.correlate(event("a"), 0.0) for _ in range(SPAM_BURST + 5)]
    assert sum(1 for s in sent if s is not None) == SPAM_BURST
    assert correlator.correlate(event("a", obj="other"), 0.0) is not None
    assert correlator.correlate(event("a"), 299.0) is None
    assert correlator.correlate(event("a"), 301.0) is not None
