"""From the kubelet's configuration to what the launcher is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.cri import api_pb2
from kubette.runtime import capabilities, image_catalogue, launch_spec
from kubette.runtime.errors import CriError

IMAGE = image_catalogue.Image("x", entrypoint=("/entry",), command=("default",), env=(("PATH", "/bin"), ("A", "image")), user="101")
WORDS = st.lists(st.text(min_size=1, max_size=3), max_size=3)


@given(WORDS, WORDS)
def test_command_and_args_follow_the_documented_table(command: list[str], args: list[str]) -> None:
    given_ = launch_spec.argv(api_pb2.ContainerConfig(command=command, args=args), IMAGE)
    if command:
        assert given_ == command + args
    elif args:
        assert given_ == ["/entry", *args]
    else:
        assert given_ == ["/entry", "default"]


def test_an_image_without_command_needs_one() -> None:
    with pytest.raises(CriError, match="no command specified"):
        launch_spec.argv(api_pb2.ContainerConfig(), image_catalogue.Image("x"))


def test_the_pods_environment_wins_over_the_images() -> None:
    config = api_pb2.ContainerConfig(envs=[api_pb2.KeyValue(key="A", value=b"pod")])
    assert launch_spec.environment(config, IMAGE, "v1", "web-0") == {"PATH": "/bin", "A": "pod", "HOSTNAME": "web-0"}


def test_user_is_the_pods_else_the_images_else_root() -> None:
    context = api_pb2.LinuxContainerSecurityContext(run_as_user=api_pb2.Int64Value(value=0))
    own = api_pb2.ContainerConfig(linux=api_pb2.LinuxContainerConfig(security_context=context))
    assert launch_spec.process(own, IMAGE)["user"] == "0"
    assert launch_spec.process(api_pb2.ContainerConfig(), IMAGE)["user"] == "101"
    assert launch_spec.process(api_pb2.ContainerConfig(), image_catalogue.Image("x"))["user"] == "0"


def test_what_is_not_supported_is_refused_not_ignored() -> None:
    context = api_pb2.LinuxContainerSecurityContext(
        seccomp=api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.Localhost, localhost_ref="x")
    )
    with pytest.raises(CriError, match="seccomp"):
        launch_spec.check_supported(api_pb2.ContainerConfig(linux=api_pb2.LinuxContainerConfig(security_context=context)))


def test_resolv_conf_is_written_as_upstream_writes_it() -> None:
    dns = api_pb2.DNSConfig(servers=["10.96.0.10"], searches=["a.svc", "svc"], options=["ndots:5"])
    assert launch_spec.resolv_conf(dns) == "search a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n"


def test_sandbox_shares_with_the_machine_exactly_what_was_asked() -> None:
    def namespaces(**options: api_pb2.NamespaceMode) -> dict[str, str | None]:
        context = api_pb2.LinuxSandboxSecurityContext(namespace_options=api_pb2.NamespaceOption(**options))  # type: ignore[arg-type]
        config = api_pb2.PodSandboxConfig(linux=api_pb2.LinuxPodSandboxConfig(security_context=context))
        found: dict[str, str | None] = launch_spec.sandbox(config, "/run/netns/x", "h", {})["namespaces"]
        return found

    assert namespaces(pid=api_pb2.CONTAINER) == {"net": "/run/netns/x", "ipc": "new", "uts": "new", "pid": None}
    assert namespaces(pid=api_pb2.POD)["pid"] == "new"
    assert namespaces(network=api_pb2.NODE)["uts"] is None


def test_capabilities_add_drop_and_all() -> None:
    assert capabilities.effective([], []) == [n for n in capabilities.NAMES if n in capabilities.DEFAULT]
    assert capabilities.effective(["NET_BIND_SERVICE"], ["all"]) == ["NET_BIND_SERVICE"]
    assert "CHOWN" not in capabilities.effective(["ALL"], ["CAP_CHOWN"])
    assert capabilities.mask(["CHOWN", "KILL"]) == 0b100001
    with pytest.raises(capabilities.UnknownCapability, match='unknown capability "CAP_FLY"'):
        capabilities.effective(["FLY"], [])
