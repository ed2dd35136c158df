"""Pure: a member of etcd: its folder, its addresses, its certificates."""

from dataclasses import dataclass

ETCDCTL, ETCDUTL, ETCD = "/usr/bin/etcdctl", "/usr/bin/etcdutl", "/usr/bin/etcd"  # ours: a user's own may be older, and stand before


@dataclass(frozen=True, slots=True)
class Member:
    """`data_dir` is where it is on the machine, whatever a container calls it."""

    machine: str
    name: str
    is_unit: bool
    data_dir: str
    peer_url: str
    client_url: str
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def certificates(self) -> str:
        """For a client."""
        return f" --cacert={self.ca_file} --cert={self.cert_file} --key={self.key_file}" if self.cert_file else ""

    def etcdctl(self, words: str, url: str = "") -> str:
        return f"{ETCDCTL} --endpoints={url or self.client_url}{self.certificates} {words}"
