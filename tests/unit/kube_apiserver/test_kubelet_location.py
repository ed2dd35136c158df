"""Where streams go."""

import pytest
from multidict import MultiDict

from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.subresources import kubelet_location as location

POD = {"metadata": {"name": "web", "namespace": "d"}, "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}]}}


def test_exec_has_the_kubelets_own_parameter_names() -> None:
    query = MultiDict([("container", "b"), ("stdin", "true"), ("stdout", "true"), ("tty", "false"), ("command", "sh"), ("command", "-c x")])
    assert location.stream_target(POD, "exec", query) == "/exec/d/web/b?input=1&output=1&command=sh&command=-c+x"


def test_a_container_must_be_named_when_there_are_several() -> None:
    with pytest.raises(ApiError, match=r"a container name must be specified for pod web, choose one of: \[a b\]"):
        location.log_target(POD, {})
    with pytest.raises(ApiError, match="container c is not valid for pod web"):
        location.log_target(POD, {"container": "c"})


def test_the_address_is_of_the_first_preferred_type() -> None:
    node = {"status": {"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}, {"type": "Hostname", "address": "n"}]}}
    assert location.node_address(node, ["ExternalIP", "InternalIP", "Hostname"]) == "1.2.3.4"
    with pytest.raises(ApiError, match="no preferred addresses found"):
        location.node_address(node, ["ExternalIP"])
