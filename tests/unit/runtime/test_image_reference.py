"""References are normalised as docker does it."""

import pytest

from kubette.runtime import image_reference


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("hashicorp/http-echo", "docker.io/hashicorp/http-echo:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("registry.k8s.io/coredns/coredns:v1.11.3", "registry.k8s.io/coredns/coredns:v1.11.3"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("nginx@sha256:" + "a" * 64, "docker.io/library/nginx@sha256:" + "a" * 64),
        ("nginx:1@sha256:" + "a" * 64, "docker.io/library/nginx:1@sha256:" + "a" * 64),
    ],
)
def test_reference_is_normalised_as_docker_does(text: str, whole: str) -> None:
    assert str(image_reference.parse(text)) == whole
    assert str(image_reference.parse(whole)) == whole


@pytest.mark.parametrize("text", ["", "Nginx", "nginx:", "a//b", "nginx@sha256:12", "-a", "nginx:a b"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(image_reference.InvalidReference, match="invalid reference format"):
        image_reference.parse(text)
