"""Objects that every cluster has from its first second."""

from kubette.kube_apiserver.bootstrap import objects

A, B = (f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n" for text in ("AAAA", "BBBB"))
FLAGS = {
    "requestheader_allowed_names": ["front-proxy-client"],
    "requestheader_extra_headers_prefix": ["X-Remote-Extra-"],
    "requestheader_group_headers": ["X-Remote-Group"],
    "requestheader_username_headers": ["X-Remote-User"],
}


def test_servers_behind_this_one_learn_whom_to_believe() -> None:
    assert objects.authentication_info(A, B, FLAGS)["data"] == {
        "client-ca-file": A,
        "requestheader-client-ca-file": B,
        "requestheader-allowed-names": '["front-proxy-client"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-username-headers": '["X-Remote-User"]',
    }
    assert objects.authentication_info("", "", FLAGS)["data"] == {}


def test_several_servers_do_not_take_each_others_word_away() -> None:
    first = objects.authentication_info(A, B, FLAGS)
    assert objects.joined_authentication_info(first, first) == first
    second = objects.authentication_info(B, B, {**FLAGS, "requestheader_allowed_names": ["other"]})
    both = objects.joined_authentication_info(first, second)["data"]
    assert both["client-ca-file"] == A + B
    assert both["requestheader-client-ca-file"] == B
    assert both["requestheader-allowed-names"] == '["front-proxy-client","other"]'
