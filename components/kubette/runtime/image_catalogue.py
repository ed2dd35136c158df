"""Pure: the image catalogue: which programs of the machine play an image's part.

There is no registry to pull from. A reference is looked up in `CATALOGUE`; an entry says what the image's configuration would say (entrypoint,
command, environment, stop signal, user) and which programs stand at which paths of its tree. A program is one of three: ours by name (a console
script: `ours`), the machine's own (`host`), or a stand-in for a program the machine does not have. `described` says in words which; the words
travel in the image's annotations, so that the kubelet's Pulled event can repeat them. Nothing pretends to be what it is not.

Digests are the SHA-256 of the entry with its tag: stable over machines, restarts and pulls, as upstream's are over registries.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from kubette.runtime.image_reference import Reference

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANNOTATION = "kubette.dev/provided-by"
VERSION_VARIABLE = "KUBETTE_KUBERNETES_VERSION"


@dataclass(frozen=True, slots=True)
class Image:
    """An image's configuration as the runtime needs it; what `config` of an OCI image holds, and what stands for its layers."""

    repository: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = (("PATH", PATH),)
    working_dir: str = ""
    user: str = ""
    stop_signal: str = "SIGTERM"
    # Paths in the image's tree: `ours:NAME` a program of ours, `module:function` a stand-in.
    programs: tuple[tuple[str, str], ...] = ()
    # Text files of the image, path -> content; a directory ends in a slash.
    files: tuple[tuple[str, str], ...] = ()
    size: int = 0
    kubernetes: bool = False  # the tag is the Kubernetes release the program runs as
    version_variable: str = ""  # where the program reads its tag
    tags: tuple[str, ...] = ()  # the tags that exist; none listed: every tag
    described: str = "the catalogue"
    pinned: bool = False

    def digest(self, tag: str) -> str:
        """`sha256:…` of what this image is at a tag."""
        content = json.dumps({**asdict(self), "tag": tag}, sort_keys=True).encode()
        return "sha256:" + hashlib.sha256(content).hexdigest()

    def id(self, tag: str) -> str:
        """The image's id: upstream's is the digest of its configuration, another than the manifest's."""
        return "sha256:" + hashlib.sha256(b"config " + self.digest(tag).encode()).hexdigest()

    def environment(self, tag: str) -> dict[str, str]:
        """The image's environment; a program that runs as many releases learns from the tag which one it is."""
        return {**dict(self.env), **({self.version_variable: tag} if self.version_variable and tag[:1] in "v0123456789" else {})}


@dataclass(frozen=True, slots=True)
class Host:
    """What the machine has; decides between the real program and its stand-in."""

    has: Callable[[str], bool] = field(default=lambda _: False)


_WELCOME = """<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
<style>
html { color-scheme: light dark; }
body { width: 35em; margin: 0 auto;
font-family: Tahoma, Verdana, Arial, sans-serif; }
</style>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page is served from the image catalogue of kubette, in nginx's place.</p>
</body>
</html>
"""
_HTTPD_PAGE = "<html><body><h1>It works!</h1></body></html>\n"
_WEB = "kubette.runtime.stand_ins.web_server"
_AGNHOST = "kubette.runtime.stand_ins.agnhost:main"


def _kubernetes(name: str, size: int) -> Image:
    return Image(
        f"registry.k8s.io/{name}",
        command=(name,),
        programs=((f"/usr/local/bin/{name}", f"ours:{name}"), (f"/usr/bin/{name}", f"ours:{name}")),
        size=size,
        kubernetes=True,
        version_variable=VERSION_VARIABLE,
        described=f"the catalogue (kubette's {name})",
    )


def _shell(repository: str, command: str, size: int) -> Image:
    name = repository.rpartition("/")[2]
    return Image(repository, command=(command,), size=size, described=f"the catalogue (the machine's own shell and tools in place of {name}'s)")


def _web(repository: str, host: Host) -> Image:
    if repository.endswith("/httpd"):
        return Image(
            repository,
            command=("httpd-foreground",),
            env=(("PATH", f"/usr/local/apache2/bin:{PATH}"), ("HTTPD_PREFIX", "/usr/local/apache2")),
            working_dir="/usr/local/apache2",
            stop_signal="SIGWINCH",
            programs=(("/usr/local/apache2/bin/httpd", f"{_WEB}:httpd"), ("/usr/local/bin/httpd-foreground", f"{_WEB}:httpd_foreground")),
            files=(("/usr/local/apache2/htdocs/index.html", _HTTPD_PAGE), ("/usr/local/apache2/logs/", "")),
            size=57_800_000,
            described="the catalogue (a stand-in web server in place of httpd)",
        )
    real = host.has("nginx")
    return Image(
        repository,
        entrypoint=("/docker-entrypoint.sh",),
        command=("nginx", "-g", "daemon off;"),
        env=(("PATH", PATH), ("NGINX_VERSION", "1.27.3")),
        stop_signal="SIGQUIT",
        programs=() if real else (("/usr/sbin/nginx", f"{_WEB}:nginx"),),
        files=(
            ("/docker-entrypoint.sh", '#!/bin/sh\nset -e\nexec "$@"\n'),
            ("/usr/share/nginx/html/index.html", _WELCOME),
            (
                "/usr/share/nginx/html/50x.html",
                "<!DOCTYPE html>\n<html><head><title>Error</title></head><body><h1>An error occurred.</h1></body></html>\n",
            ),
            ("/etc/nginx/conf.d/default.conf", _NGINX_DEFAULT),
            ("/etc/nginx/nginx.conf", _NGINX_CONF),
            ("/var/log/nginx/", ""),
            ("/var/cache/nginx/", ""),
        ),
        size=72_100_000,
        described="the catalogue (the machine's nginx)" if real else "the catalogue (a stand-in web server in place of nginx)",
    )


_NGINX_CONF = """user  root;
worker_processes  auto;
error_log  /dev/stderr notice;
pid        /run/nginx.pid;
events { worker_connections  1024; }
http {
    include       /etc/mime.types*;
    default_type  application/octet-stream;
    access_log  /dev/stdout combined;
    sendfile        on;
    keepalive_timeout  65;
    include /etc/nginx/conf.d/*.conf;
}
"""
_NGINX_DEFAULT = """server {
    listen       80;
    server_name  localhost;
    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }
}
"""


def entries(host: Host) -> dict[str, Image]:
    """The catalogue of a machine, by repository."""
    images = [
        _kubernetes("kube-apiserver", 27_100_000),
        _kubernetes("kube-controller-manager", 22_800_000),
        _kubernetes("kube-scheduler", 17_400_000),
        _kubernetes("kube-proxy", 26_000_000),
        Image(
            "registry.k8s.io/etcd",
            command=("etcd",),
            programs=tuple(
                (f"{folder}/{name}", f"ours:{name}") for folder in ("/usr/local/bin", "/usr/bin") for name in ("etcd", "etcdctl", "etcdutl")
            ),
            size=22_900_000,
            version_variable="KUBETTE_ETCD_VERSION",
            described="the catalogue (kubette's etcd)",
        ),
        Image(
            "registry.k8s.io/coredns/coredns",
            entrypoint=("/coredns",),
            programs=(("/coredns", "ours:coredns"),),
            size=22_400_000,
            described="the catalogue (kubette's cluster DNS in place of CoreDNS)",
        ),
        Image(
            "registry.k8s.io/pause", entrypoint=("/pause",), programs=(("/pause", "kubette.runtime.stand_ins.pause:main"),), size=320_000, pinned=True
        ),
        _shell("docker.io/library/busybox", "sh", 2_160_000),
        _shell("docker.io/library/alpine", "/bin/sh", 3_640_000),
        _shell("docker.io/library/debian", "bash", 49_300_000),
        _shell("registry.k8s.io/build-image/debian-base", "bash", 32_100_000),
        _shell("docker.io/library/ubuntu", "/bin/bash", 29_700_000),
        Image("docker.io/library/python", command=("python3",), size=362_000_000, described="the catalogue (the machine's own Python)"),
        _web("docker.io/library/nginx", host),
        _web("docker.io/library/httpd", host),
        Image(
            "registry.k8s.io/e2e-test-images/agnhost",
            entrypoint=("/agnhost",),
            command=("pause",),
            programs=(("/agnhost", _AGNHOST),),
            size=52_000_000,
            described="the catalogue (a stand-in for agnhost)",
        ),
        Image(
            "docker.io/hashicorp/http-echo",
            entrypoint=("/http-echo",),
            programs=(("/http-echo", "kubette.runtime.stand_ins.http_echo:main"),),
            size=4_600_000,
            described="the catalogue (a stand-in for http-echo)",
        ),
    ]
    if host.has("redis-server"):
        images.append(
            Image("docker.io/library/redis", command=("redis-server",), size=45_900_000, described="the catalogue (the machine's redis-server)")
        )
    found = {image.repository: image for image in images}
    # The names the same images go by elsewhere.
    for old, new in (("k8s.gcr.io", "registry.k8s.io"),):
        found.update({r.replace(new, old, 1): i for r, i in list(found.items()) if r.startswith(new)})
    return found


def find(catalogue: dict[str, Image], reference: Reference) -> Image | None:
    """The entry of a reference; None when there is no such image, tag or digest."""
    image = catalogue.get(reference.repository)
    if image is None:
        return None
    if image.kubernetes and reference.tag and not _is_release(reference.tag):
        return None
    if reference.tag and image.tags and reference.tag not in image.tags:
        return None
    return image


def _is_release(tag: str) -> bool:
    """Kubernetes' images have release tags only: `v1.31.0`, never `latest`."""
    parts = tag.removeprefix("v").split("-")[0].split(".")
    return tag.startswith("v") and len(parts) == 3 and all(p.isdigit() for p in parts)
