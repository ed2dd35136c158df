"""What `kubette up` hands to kubeadm."""

import yaml

from kubette.cli import bring_up, kubeadm_config
from kubette.kube_apiserver import config as apiserver_config
from kubette.kube_apiserver.audit import policy
from kubette.kube_apiserver.audit.policy import Level
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, UserInfo
from kubette.kubeadm import documents
from kubette.machines import spec

POLICY, UNKNOWN = policy.load(yaml.safe_load(kubeadm_config.audit_policy()))


def test_kubeadm_understands_the_configuration() -> None:
    for count in (1, 3):
        cluster = spec.plan("dev", count, 1, "v1.37.0", "kubeadm")
        text = yaml.safe_dump_all(kubeadm_config.configuration(cluster, "abcdef.0123456789abcdef", "key"))
        loaded = documents.load(text)
        made = loaded.cluster()
        assert made.pod_subnet == spec.POD_NETWORK
        assert made.control_plane_endpoint == (cluster.endpoint if count == 3 else "")
        assert made.extra_args("apiServer") == kubeadm_config.AUDIT_FLAGS
        assert loaded.by_kind["InitConfiguration"].get("certificateKey") == ("key" if count == 3 else None)
        assert ("--upload-certs" in bring_up.init_command(cluster)) is (count == 3)
    assert set(kubeadm_config.AUDIT_FLAGS) <= set(apiserver_config.FLAGS.flags)


def test_the_policy_records_what_is_changed_and_never_what_is_in_it() -> None:
    ann = UserInfo("ann")
    assert UNKNOWN == []
    assert POLICY.evaluate(AuthzAttributes(ann, "create", "", "v1", "secrets")).level is Level.METADATA
    assert POLICY.evaluate(AuthzAttributes(ann, "watch", "", "v1", "pods")).level is Level.METADATA
    assert POLICY.evaluate(AuthzAttributes(ann, "get", "", "v1", "secrets")).level is Level.NONE
    assert POLICY.evaluate(AuthzAttributes(ann, "update", "coordination.k8s.io", "v1", "leases")).level is Level.NONE
