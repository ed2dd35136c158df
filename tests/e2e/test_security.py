"""Who may do what: anonymous users, RBAC, service accounts, nodes; and etcd, which wants a certificate."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl


def answer(cluster: Cluster, path: str, token: str = "") -> tuple[int, str]:
    """What the API server says to somebody without a client certificate."""
    request = urllib.request.Request(f"https://127.0.0.1:{cluster.api_port}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context(cadata=cluster.on("controlplane", "cat", "/etc/kubernetes/pki/ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_anonymous_user_sees_the_health_and_the_version_and_nothing_else(cluster: Cluster) -> None:
    assert answer(cluster, "/livez") == (200, "ok")
    assert json.loads(answer(cluster, "/version")[1])["gitVersion"] == "v1.37.1"
    code, body = answer(cluster, "/api/v1/pods")
    assert code == 403
    assert (
        json.loads(body)["message"] == 'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" at the cluster scope'
    )
    code, body = answer(cluster, "/api/v1/nodes", token="not-a-token")
    assert (code, json.loads(body)["reason"]) == (401, "Unauthorized")


def test_rbac_denies_in_upstreams_words_and_a_binding_allows(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "reader")
    user = f"system:serviceaccount:{kubectl.namespace}:reader"
    as_reader = (f"--as={user}",)
    text = f'User "{user}" cannot list resource "pods" in API group "" in the namespace "{kubectl.namespace}"'
    assert f"Error from server (Forbidden): pods is forbidden: {text}" in kubectl.refused("get", "pods", *as_reader)
    assert 'cannot create resource "deployments" in API group "apps"' in kubectl.refused("create", "deployment", "x", "--image=nginx", *as_reader)
    assert kubectl.run("auth", "can-i", "list", "pods", *as_reader).stdout == "no\n"
    kubectl("create", "role", "reads", "--verb=get,list,watch", "--resource=pods")
    kubectl("create", "rolebinding", "reads", "--role=reads", f"--serviceaccount={kubectl.namespace}:reader")
    eventually(lambda: kubectl.run("auth", "can-i", "list", "pods", *as_reader).stdout, lambda said: said == "yes\n")
    kubectl("get", "pods", *as_reader)
    token = kubectl("create", "token", "reader").strip()
    assert answer(cluster, f"/api/v1/namespaces/{kubectl.namespace}/pods", token)[0] == 200
    code, body = answer(cluster, f"/api/v1/namespaces/{kubectl.namespace}/secrets", token)
    assert (code, json.loads(body)["reason"]) == (403, "Forbidden")


def test_nobody_binds_a_role_that_is_more_than_his_own(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "climber")
    kubectl("create", "role", "binds", "--verb=create", "--resource=rolebindings.rbac.authorization.k8s.io")
    kubectl("create", "rolebinding", "binds", "--role=binds", f"--serviceaccount={kubectl.namespace}:climber")
    user = f"system:serviceaccount:{kubectl.namespace}:climber"
    eventually(lambda: kubectl.run("auth", "can-i", "create", "rolebindings", f"--as={user}").stdout, lambda said: said == "yes\n")
    denied = kubectl.refused(
        "create", "rolebinding", "more", "--clusterrole=cluster-admin", f"--serviceaccount={kubectl.namespace}:climber", f"--as={user}"
    )
    assert "is attempting to grant RBAC permissions not currently held" in denied


def test_a_pod_speaks_to_the_api_server_as_its_service_account(kubectl: Kubectl) -> None:
    kubectl("run", "inside", "--image=busybox", "--", "sleep", "1000")
    kubectl.wait("condition=Ready", "pod/inside")
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    ask = f'curl -s --cacert {folder}/ca.crt -H "Authorization: Bearer $(cat {folder}/token)" https://kubernetes.default.svc'
    assert kubectl.exec("inside", f"{ask}/livez") == "ok"
    status = json.loads(kubectl.exec("inside", f"{ask}/api/v1/secrets"))
    assert f'User "system:serviceaccount:{kubectl.namespace}:default" cannot list resource "secrets"' in status["message"]


def test_a_node_changes_itself_and_no_other(cluster: Cluster) -> None:
    command = "kubectl --kubeconfig=/etc/kubernetes/kubelet.conf label node {} touched=yes 2>&1"
    refused = cluster.run("ssh", "node01", "--", "sh", "-c", command.format("node02"))
    assert refused.returncode != 0
    assert 'is not allowed to modify node "node02"' in refused.stdout
    assert "labeled" in cluster.on("node01", "sh", "-c", command.format("node01"))


def test_etcd_refuses_a_client_without_certificate(cluster: Cluster, judge: Callable[[str], str]) -> None:
    program = judge("etcdctl")
    trusting = (
        f"ETCDCTL_API=3 {program} --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt --command-timeout=3s --dial-timeout=3s"
    )
    without = cluster.run("ssh", "controlplane", "--", "sh", "-c", f"{trusting} get / --prefix --keys-only 2>&1")
    assert without.returncode != 0
    assert "registry" not in without.stdout
    other = "--cert=/etc/kubernetes/pki/apiserver-kubelet-client.crt --key=/etc/kubernetes/pki/apiserver-kubelet-client.key"
    stranger = cluster.run("ssh", "controlplane", "--", "sh", "-c", f"{trusting} {other} get / --prefix --keys-only 2>&1")
    assert stranger.returncode != 0, "a certificate of another authority"


def test_the_kubelet_refuses_strangers(cluster: Cluster) -> None:
    code = cluster.on("controlplane", "sh", "-c", "curl -sk -o /dev/null -w '%{http_code}' https://192.168.56.12:10250/pods")
    assert code == "401"
    certificate = "--cert /etc/kubernetes/pki/apiserver-kubelet-client.crt --key /etc/kubernetes/pki/apiserver-kubelet-client.key"
    assert (
        cluster.on("controlplane", "sh", "-c", f"curl -sk {certificate} -o /dev/null -w '%{{http_code}}' https://192.168.56.12:10250/pods") == "200"
    )
