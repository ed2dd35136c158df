"""Back-off, probe states, environment, names, texts, configuration: the small pure parts."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.component_base.flags import format_duration
from kubette.component_base.run import StartupError
from kubette.kubelet import config, cri_logs, environment, event_texts, eviction, images, network_files, quality_of_service, status_patch
from kubette.kubelet.authorization import subresources, user_of_certificate
from kubette.kubelet.backoff import KeyedBackoff
from kubette.kubelet.probe_state import Kind, ProbeState, Result

from .builders import container, pod

# Back-off


def test_back_off_doubles_to_five_minutes_and_forgets_after_ten() -> None:
    backoff, now, delays = KeyedBackoff(), 1000.0, []
    assert backoff.remaining_s("web", now, now) == 0
    for _ in range(8):
        backoff.next("web", now, now)
        delays.append(backoff.remaining_s("web", now, now))
        now += delays[-1]
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
    now += 601
    assert backoff.remaining_s("web", now, now) == 0
    backoff.next("web", now, now)
    assert backoff.delay_s("web") == 10


def test_back_off_counts_from_the_failure() -> None:
    backoff = KeyedBackoff()
    backoff.next("web", 100.0, 101.0)
    assert backoff.remaining_s("web", 105.0, 108.0) == 7
    backoff.forget("we")
    assert backoff.delay_s("web") == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (10, "10s"), (160, "2m40s"), (300, "5m0s"), (3661.5, "1h1m1.5s"), (0.35, "350ms"), (1.234567, "1.234567s"), (0.0000015, "1.5µs")],
)
def test_durations_read_as_gos(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


# Probes


def test_readiness_begins_unready_and_needs_its_threshold_to_change() -> None:
    state = ProbeState.begin(Kind.READINESS, {"failureThreshold": 2})
    assert state.result is Result.FAILURE
    assert state.observe(Result.SUCCESS)
    assert not state.observe(Result.FAILURE)
    assert state.observe(Result.FAILURE)
    assert state.result is Result.FAILURE


def test_a_failed_liveness_probe_is_on_hold_until_the_container_is_replaced() -> None:
    state = ProbeState.begin(Kind.LIVENESS, {"failureThreshold": 1})
    assert state.result is Result.SUCCESS
    assert state.observe(Result.FAILURE)
    assert not state.due(100, {})


def test_a_startup_probe_is_over_when_it_has_succeeded() -> None:
    state = ProbeState.begin(Kind.STARTUP, {"initialDelaySeconds": 5})
    assert state.result is Result.UNKNOWN
    assert not state.due(4, {"initialDelaySeconds": 5})
    assert state.due(5, {"initialDelaySeconds": 5})
    state.observe(Result.SUCCESS)
    assert not state.due(100, {})


@given(st.lists(st.sampled_from([Result.SUCCESS, Result.FAILURE])), st.integers(1, 4), st.integers(1, 4))
def test_a_probe_result_is_the_last_run_that_was_long_enough(outcomes: list[Result], successes: int, failures: int) -> None:
    state = ProbeState.begin(Kind.READINESS, {"successThreshold": successes, "failureThreshold": failures})
    expected, run = Result.FAILURE, 0
    for index, outcome in enumerate(outcomes):
        run = run + 1 if index and outcomes[index - 1] is outcome else 1
        if run >= (successes if outcome is Result.SUCCESS else failures):
            expected = outcome
        state.observe(outcome)
    assert state.result is expected


# Environment

CONFIGMAP = {"metadata": {"name": "cm"}, "data": {"key": "value"}}
SECRET = {"metadata": {"name": "sec"}, "data": {"pw": base64.b64encode(b"hunter2").decode()}}
OBJECTS = {("configmaps", "cm"): CONFIGMAP, ("secrets", "sec"): SECRET, ("configmaps", "none"): None}


def make(spec: dict, services: dict[str, str] | None = None) -> dict[str, str]:
    a_pod = pod(spec)
    a_pod["status"] = {"podIP": "10.0.0.1"}
    return environment.make_environment(a_pod, spec, OBJECTS, services or {}, {"cpu": "2", "memory": "1Gi"})


def test_environment_comes_from_everywhere_and_expands_in_order() -> None:
    spec = container(
        "web",
        resources={"limits": {"cpu": "500m"}},
        envFrom=[{"prefix": "P_", "configMapRef": {"name": "cm"}}],
        env=[
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(P_key)-$$(A)-$(MISSING)-$(SVC)"},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "OPT", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
        ],
    )
    made = make(spec, {"SVC": "10.96.0.1"})
    assert made == {
        "SVC": "10.96.0.1", "P_key": "value", "A": "1", "B": "1-value-$(A)-$(MISSING)-10.96.0.1", "PW": "hunter2", "IP": "10.0.0.1", "CPU": "1", "MEM": "1024",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "x"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "x"}}, "couldn't find key x in ConfigMap default/cm"),
        ({"secretKeyRef": {"name": "sec", "key": "x"}}, "couldn't find key x in Secret default/sec"),
    ],
)
def test_a_missing_reference_says_what_is_missing(source: dict, message: str) -> None:
    with pytest.raises(environment.InvalidEnvironment, match=message):
        make(container("web", env=[{"name": "X", "valueFrom": source}]))


def test_service_variables_are_docker_links() -> None:
    service = {"metadata": {"name": "my-db", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]}}
    headless = {"metadata": {"name": "none", "namespace": "default"}, "spec": {"clusterIP": "None"}}
    api = {"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443}]}}
    found = environment.service_variables([service, headless, api], "default", True)
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.7"
    assert found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT_5432_TCP"] == "tcp://10.96.0.7:5432"
    assert not any(name.startswith("NONE") for name in found)
    assert "MY_DB_SERVICE_HOST" not in environment.service_variables([service, api], "default", False)
    assert environment.service_variables([api], "other", False)["KUBERNETES_SERVICE_PORT"] == "443"


# Names inside the pod


def test_cluster_first_asks_the_cluster_dns_and_falls_back_with_a_warning() -> None:
    node = network_files.parse_resolv_conf("nameserver 1.1.1.1\nsearch home.example\noptions edns0\n")
    dns, warning = network_files.pod_dns(pod(), node, ("10.96.0.10",), "cluster.local")
    assert dns == network_files.Dns(
        ("10.96.0.10",), ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "home.example"), ("ndots:5",)
    )
    assert warning == ""
    dns, warning = network_files.pod_dns(pod(), node, (), "cluster.local")
    assert (dns.servers, "MissingClusterDNS" in warning or "Falling back" in warning) == (("1.1.1.1",), True)
    host, _ = network_files.pod_dns(pod(hostNetwork=True), node, ("10.96.0.10",), "cluster.local")
    assert host.servers == ("1.1.1.1",)


def test_dns_config_is_merged_over_the_policy() -> None:
    wanted = {"nameservers": ["9.9.9.9"], "searches": ["x.example"], "options": [{"name": "ndots", "value": "2"}]}
    dns, _ = network_files.pod_dns(pod(dnsPolicy="None", dnsConfig=wanted), network_files.Dns(), (), "cluster.local")
    assert dns == network_files.Dns(("9.9.9.9",), ("x.example",), ("ndots:2",))


def test_the_hosts_file_has_the_pods_name_and_its_aliases() -> None:
    a_pod = pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}], subdomain="sub")
    hostname, domain = network_files.hostname_and_domain(a_pod, "cluster.local")
    text = network_files.hosts_file(a_pod, ("10.244.1.2",), hostname, domain, "")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.244.1.2\tweb.sub.default.svc.cluster.local\tweb\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


# Texts by release


def test_event_texts_are_those_of_the_release() -> None:
    assert [event_texts.created(r, "web") for r in ((1, 30), (1, 32), (1, 35))] == [
        "Created container web",
        "Created container: web",
        "Container created",
    ]
    assert event_texts.already_present((1, 34), "nginx") == 'Container image "nginx" already present on machine'
    assert (
        event_texts.pulled((1, 31), "nginx", 1.25, 2.5, 7)
        == 'Successfully pulled image "nginx" in 1.25s (2.5s including waiting). Image size: 7 bytes.'
    )
    assert event_texts.crash_loop(20, "web", "web_default(1)") == "back-off 20s restarting failed container=web pod=web_default(1)"


# Resources


def test_qos_classes() -> None:
    both = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    assert quality_of_service.qos_class(pod(container("a", resources=both))) == "Guaranteed"
    assert quality_of_service.qos_class(pod(container("a", resources=both), container("b"))) == "Burstable"
    assert quality_of_service.qos_class(pod()) == "BestEffort"


def test_thresholds_are_sizes_or_percentages() -> None:
    signals = {"memory.available": eviction.Signal(50 << 20, 1 << 30), "nodefs.available": eviction.Signal(20, 100)}
    assert eviction.thresholds_met(eviction.HARD_DEFAULTS, signals) == ["memory.available"]


def test_pressure_lasts_for_the_transition_period() -> None:
    state = eviction.PressureState(300)
    state.observe(["memory.available"], 0)
    assert (state.has("MemoryPressure", 299), state.has("MemoryPressure", 300), state.has("DiskPressure", 0)) == (True, False, False)


# Logs


def test_log_lines_and_tails() -> None:
    line = cri_logs.parse(b"2026-01-01T00:00:00.5Z stderr F hello world")
    assert line is not None
    assert (line.stream, line.partial, line.text) == ("stderr", False, b"hello world\n")
    assert cri_logs.parse(b"garbage") is None
    text = b"t stdout F a\nt stdout P b\nt stdout F c\nt stdout F d\n"
    assert text[cri_logs.tail_offset(text, 1) :] == b"t stdout F d\n"
    assert text[cri_logs.tail_offset(text, 2) :] == b"t stdout P b\nt stdout F c\nt stdout F d\n"
    assert cri_logs.tail_offset(text, 9) == 0


# Images


def test_image_names() -> None:
    assert [images.with_tag(n) for n in ("nginx", "nginx:1", "a.b:5000/nginx", "n@sha256:0")] == [
        "nginx:latest",
        "nginx:1",
        "a.b:5000/nginx:latest",
        "n@sha256:0",
    ]
    assert [images.registry_of(n) for n in ("nginx", "a/b", "ghcr.io/a/b")] == ["docker.io", "docker.io", "ghcr.io"]


# The status patch


def test_the_patch_holds_what_differs_and_nothing_else() -> None:
    shown = {"phase": "Pending", "podIPs": [{"ip": "1"}], "conditions": [{"type": "Ready", "status": "False", "lastProbeTime": None}], "message": "x"}
    known = {"phase": "Running", "podIPs": [{"ip": "2"}], "conditions": [{"type": "Ready", "status": "False"}, {"type": "New", "status": "True"}]}
    assert status_patch.status_patch(shown, known) == {
        "phase": "Running",
        "podIPs": [{"$patch": "replace"}, {"ip": "2"}],
        "conditions": [{"type": "New", "status": "True"}],
        "message": None,
    }
    assert status_patch.status_patch(known, known) is None


def test_a_condition_that_became_true_loses_the_reason_why_it_was_not() -> None:
    shown = {"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"}]}
    patch = status_patch.status_patch(shown, {"conditions": [{"type": "Ready", "status": "True"}]})
    assert patch == {"conditions": [{"type": "Ready", "status": "True", "reason": None, "message": None}]}


# Who may


def test_paths_map_to_subresources_by_release() -> None:
    assert subresources("/stats/summary", (1, 30)) == ["stats"]
    assert subresources("/metrics/cadvisor", (1, 30)) == ["metrics"]
    assert subresources("/containerLogs/a/b/c", (1, 34)) == ["proxy"]
    assert subresources("/pods", (1, 30)) == ["proxy"]
    assert subresources("/pods", (1, 34)) == ["pods", "proxy"]


def test_a_certificate_names_its_user() -> None:
    user = user_of_certificate({"subject": ((("organizationName", "system:masters"),), (("commonName", "kube-apiserver-kubelet-client"),))})
    assert (user.name, user.groups) == ("kube-apiserver-kubelet-client", ("system:masters", "system:authenticated"))


# Configuration


def load(tmp_path, text: str, *argv: str) -> config.Config:
    file = tmp_path / "config.yaml"
    file.write_text("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n" + text)
    return config.load(config.flag_set((1, 34)).parse([f"--config={file}", "--hostname-override=Node01", *argv]))


def test_flags_win_over_the_file_and_zero_durations_are_defaults(tmp_path) -> None:
    found = load(
        tmp_path, "staticPodPath: /m\nclusterDNS: [10.96.0.10]\nsyncFrequency: 0s\nmaxPods: 20\nport: 10350\n", "--max-pods=30", "--node-ip=1.2.3.4"
    )
    assert (found.node_name, found.static_pod_path, found.cluster_dns, found.sync_frequency_s) == ("node01", "/m", ("10.96.0.10",), 60.0)
    assert (found.max_pods, found.node_ips, found.port) == (30, ("1.2.3.4",), 10350)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo: 1\nauthentication: {bar: 2}\n", 'strict decoding error: unknown field "foo", unknown field "authentication.bar"'),
        ("maxPods: many\n", "cannot unmarshal string into Go struct field KubeletConfiguration.maxPods of type number"),
        ("cpuManagerPolicy: static\n", "field \"cpuManagerPolicy\": value 'static' is not supported"),
        ("authorization: {mode: Maybe}\n", "unknown authorization mode Maybe"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text: str, message: str) -> None:
    with pytest.raises(StartupError) as refused:
        load(tmp_path, text)
    assert message in str(refused.value)


def test_what_kubeadm_writes_is_accepted(tmp_path) -> None:
    load(
        tmp_path,
        "cpuManagerReconcilePeriod: 0s\nmemorySwap: {}\nlogging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}}, verbosity: 0}\n",
    )


def test_reserved_labels_are_refused(tmp_path) -> None:
    with pytest.raises(StartupError, match=r"unknown 'kubernetes.io' or 'k8s.io' labels"):
        load(tmp_path, "", "--node-labels=node-role.kubernetes.io/worker=")
    assert load(tmp_path, "", "--node-labels=node.kubernetes.io/x=1,a=b").node_labels == {"node.kubernetes.io/x": "1", "a": "b"}


def test_the_infra_image_flag_went_away_with_its_release() -> None:
    config.flag_set((1, 34)).parse(["--pod-infra-container-image=x"])
    with pytest.raises(Exception, match="unknown flag: --pod-infra-container-image"):
        config.flag_set((1, 35)).parse(["--pod-infra-container-image=x"])
