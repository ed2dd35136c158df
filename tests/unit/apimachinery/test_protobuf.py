"""Protobuf bodies: one that kubectl 1.37 sent, and everything that is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.apimachinery.protobuf import Decoder, ProtobufError

# `kubectl create configmap a --from-literal=x=y`, as it stood on the wire.
CONFIG_MAP = bytes.fromhex("6b3873000a0f0a0276311209436f6e6669674d6170121b0a110a016112001a0022002a0032003800420012060a0178120179" + "1a002200")
DECODER = Decoder.load()


def test_what_kubectl_sends_is_the_object_it_means() -> None:
    assert DECODER.decode(CONFIG_MAP) == {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"x": "y"}}


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


def test_inlined_pointers_quantities_and_either_or_types() -> None:
    limits = _field(1, _field(1, b"cpu") + _field(2, _field(1, b"100m")))
    probe = _field(1, _field(2, _field(2, bytes([0x08, 0x00, 0x10, 80]))))  # httpGet inside the inlined handler, port 80
    container = _field(1, b"c") + _field(8, limits) + _field(10, probe)
    volume = _field(1, b"v") + _field(2, _field(2, b""))  # emptyDir inside the inlined source
    spec = _field(1, volume) + _field(2, container) + bytes([4 << 3, 0])  # terminationGracePeriodSeconds: 0 is kept
    body = b"k8s\0" + _field(1, _field(1, b"v1") + _field(2, b"Pod")) + _field(2, _field(2, spec))
    assert DECODER.decode(body)["spec"] == {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "resources": {"limits": {"cpu": "100m"}}, "livenessProbe": {"httpGet": {"port": 80}}}],
        "terminationGracePeriodSeconds": 0,
    }


@given(st.binary(max_size=200))
def test_nonsense_is_an_error_and_nothing_worse(noise: bytes) -> None:
    for body in (noise, b"k8s\0" + noise, CONFIG_MAP + noise, CONFIG_MAP[: len(noise)] + noise):
        try:
            DECODER.decode(body, "v1", "Pod")
        except ProtobufError:
            continue


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ProtobufError, match="no kind"):
        DECODER.decode(b"k8s\0", "example.com/v1", "Widget")
