"""kube-proxy's configuration."""

import os
import platform

import pytest

from kubette.kube_proxy import config


def test_the_node_is_this_machine_whatever_a_warm_parent_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "the-host")
    assert config.load(config.flag_set().parse([])).node == os.uname().nodename.lower()
    assert config.load(config.flag_set().parse(["--hostname-override=node07"])).node == "node07"
