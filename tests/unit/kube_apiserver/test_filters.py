"""Negotiation, limits, headers."""

import pytest

from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.filters import answer, negotiation
from kubette.kube_apiserver.filters.in_flight import InFlight


@pytest.mark.parametrize(
    ("accept", "media", "transform"),
    [
        ("", "application/json", ""),
        ("application/vnd.kubernetes.protobuf,application/json", "application/json", ""),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", "application/json", "Table"),
        ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "application/json", "PartialObjectMetadata"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", "application/json", ""),
        ("application/yaml", "application/yaml", ""),
        ("application/json;q=0.1,application/yaml;q=0.9", "application/yaml", ""),
    ],
)  # fmt: skip
def test_the_first_form_we_can_make_is_chosen(accept: str, media: str, transform: str) -> None:
    form = negotiation.negotiate(accept)
    assert (form.media_type, form.transform) == (media, transform)


def test_nothing_we_can_make_is_406() -> None:
    with pytest.raises(ApiError) as caught:
        negotiation.negotiate("application/vnd.kubernetes.protobuf")
    assert caught.value.code == 406


def test_too_many_requests_are_refused_but_not_the_administrators() -> None:
    limits = InFlight(1, 1)
    limits.enter(mutating=False, privileged=False)
    limits.enter(mutating=True, privileged=False)  # counted apart
    with pytest.raises(ApiError) as caught:
        limits.enter(mutating=False, privileged=False)
    assert (caught.value.code, caught.value.retry_after_s) == (429, 1)
    limits.enter(mutating=False, privileged=True)
    limits.leave(mutating=False)
    limits.leave(mutating=False)
    limits.enter(mutating=False, privileged=False)


def test_a_warning_cannot_break_out_of_its_header() -> None:
    assert answer.warning_header('a "b"\r\nSet-Cookie: x') == '299 - "a \\"b\\"  Set-Cookie: x"'
