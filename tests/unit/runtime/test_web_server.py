"""nginx's stand-in: its configuration as far as it goes, and its answers."""

from pathlib import Path

import pytest

from kubette.runtime.stand_ins import web_server


def test_a_site_is_read_from_nginx_configuration() -> None:
    text = "http { server { listen 8080; listen [::]:8080; root /srv; # a comment\n location = /healthz { return 200 'ok\\n'; } } }"
    (site,) = web_server.parse_nginx(text, "x")
    assert (site.ports, site.root) == ([8080, 8080], "/srv")
    assert web_server.answer(site, "GET", "/healthz").body == b"ok\n"


def test_what_would_matter_and_is_not_played_is_refused() -> None:
    with pytest.raises(web_server.ConfigurationError, match=r'\[emerg\] unknown directive "proxy_pass"'):
        web_server.parse_nginx("server { location / { proxy_pass http://x; } }", "x")


def test_pages_redirects_and_errors(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    (tmp_path / "docs").mkdir()
    site = web_server.Site([80], str(tmp_path))
    page = web_server.answer(site, "GET", "/?x=1")
    assert (page.status, page.body, page.kind) == (200, b"hello", "text/html")
    assert web_server.answer(site, "GET", "/", dict(page.headers)["Last-Modified"]).status == 304
    assert web_server.answer(site, "GET", "/docs").headers == (("Location", "/docs/"),)
    assert web_server.answer(site, "GET", "/docs/").status == 403
    assert web_server.answer(site, "GET", "/none").status == 404
    assert web_server.answer(site, "GET", "/../../etc/passwd").status == 404
    assert web_server.answer(site, "POST", "/").status == 405
