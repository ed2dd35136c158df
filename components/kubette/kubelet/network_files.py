"""Pure: names inside a pod: its hostname, /etc/hosts and DNS configuration (kubelet_pods.go and network/dns)."""

from dataclasses import dataclass
from typing import Any

from kubette.kubelet import pod_spec

SEARCHES_MAX = 32
SEARCH_CHARACTERS_MAX = 2048
NAMESERVERS_MAX = 3  # glibc reads no more
HOSTNAME_MAX = 63  # a DNS label; Linux allows one more

MANAGED_HOSTS_HEADER = "# Kubernetes-managed hosts file.\n"
MANAGED_HOSTS_HEADER_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"


@dataclass(frozen=True, slots=True)
class Dns:
    """What /etc/resolv.conf shall say."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hostname_and_domain(pod: pod_spec.Pod, cluster_domain: str) -> tuple[str, str]:
    """The pod's hostname and, with a subdomain, its domain."""
    spec = pod["spec"]
    if spec.get("hostnameOverride"):
        return str(spec["hostnameOverride"]), ""
    hostname = str(spec.get("hostname") or pod_spec.name(pod)[:HOSTNAME_MAX].rstrip("-."))
    domain = f"{spec['subdomain']}.{pod_spec.namespace(pod)}.svc.{cluster_domain}" if spec.get("subdomain") else ""
    if spec.get("setHostnameAsFQDN") and domain:
        hostname = f"{hostname}.{domain}"
    return hostname, domain


def hosts_file(pod: pod_spec.Pod, ips: tuple[str, ...], hostname: str, domain: str, node_hosts: str) -> str:
    """The content of /etc/hosts."""
    if pod_spec.host_network(pod):
        text = MANAGED_HOSTS_HEADER_HOST_NETWORK + node_hosts
    else:
        text = MANAGED_HOSTS_HEADER
        text += "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        text += "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        for ip in ips:
            text += f"{ip}\t{hostname}.{domain}\t{hostname}\n" if domain else f"{ip}\t{hostname}\n"
    aliases: list[dict[str, Any]] = pod["spec"].get("hostAliases") or []
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += "\t".join([alias["ip"], *(alias.get("hostnames") or [])]) + "\n"
    return text


def parse_resolv_conf(text: str) -> Dns:
    """The node's own resolver configuration; the last `search` and `options` lines count."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] == "search":
            searches = [word.rstrip(".") or "." for word in words[1:]]
        elif words[0] == "options":
            options = words[1:]
    return Dns(tuple(servers), tuple(searches), tuple(options))


def pod_dns(pod: pod_spec.Pod, node: Dns, cluster_dns: tuple[str, ...], cluster_domain: str) -> tuple[Dns, str]:
    """The pod's DNS, and a warning (event MissingClusterDNS) when its policy could not be honoured."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    warning = ""
    if policy == "ClusterFirst" and pod_spec.host_network(pod):
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        if cluster_dns:
            searches = [f"{pod_spec.namespace(pod)}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain, *node.searches]
            dns = Dns(cluster_dns, tuple(dict.fromkeys(searches)), ("ndots:5",))
        else:
            warning = (
                f'kubelet does not have ClusterDNS IP configured and cannot create Pod using "{pod["spec"].get("dnsPolicy")}" policy. '
                'Falling back to "Default" policy.'
            )
            dns = node
    elif policy == "None":
        dns = Dns()
    else:
        # A node without a resolver is its own.
        dns = node if node.servers else Dns(("127.0.0.1",), (".",), node.options)
    return _limited(_with_config(dns, pod["spec"].get("dnsConfig") or {})), warning


def _with_config(dns: Dns, config: dict[str, Any]) -> Dns:
    options = {o.partition(":")[0]: o for o in dns.options}
    for option in config.get("options") or []:
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value else option["name"]
    return Dns(
        tuple(dict.fromkeys([*dns.servers, *(config.get("nameservers") or [])])),
        tuple(dict.fromkeys([*dns.searches, *(config.get("searches") or [])])),
        tuple(options.values()),
    )


def _limited(dns: Dns) -> Dns:
    searches: list[str] = []
    for search in dns.searches[:SEARCHES_MAX]:
        if len(" ".join([*searches, search])) > SEARCH_CHARACTERS_MAX:
            break
        searches.append(search)
    return Dns(dns.servers[:NAMESERVERS_MAX], tuple(searches), dns.options)
