"""Pure: the files of a new machine's /etc that are its own (the rest is copied from the host, see `root_tree`)."""

from kubette.machines import spec

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A Debian system's own accounts; nobody of the host's is among them.
_ACCOUNTS = (
    ("root", 0, "/root", "/bin/bash"),
    ("daemon", 1, "/usr/sbin", "/usr/sbin/nologin"),
    ("bin", 2, "/bin", "/usr/sbin/nologin"),
    ("sys", 3, "/dev", "/usr/sbin/nologin"),
    ("mail", 8, "/var/mail", "/usr/sbin/nologin"),
    ("www-data", 33, "/var/www", "/usr/sbin/nologin"),
    ("_apt", 42, "/nonexistent", "/usr/sbin/nologin"),
    ("messagebus", 100, "/nonexistent", "/usr/sbin/nologin"),
    ("nobody", 65534, "/nonexistent", "/usr/sbin/nologin"),
)
ETCD_ID = 998  # of the user and group that Debian's package of etcd makes
_GROUPS = (("root", 0), ("daemon", 1), ("bin", 2), ("sys", 3), ("adm", 4), ("tty", 5), ("disk", 6), ("mail", 8), ("sudo", 27), ("www-data", 33))
_MORE_GROUPS = (("utmp", 43), ("staff", 50), ("users", 100), ("messagebus", 101), ("systemd-journal", 999), ("nogroup", 65534))

_PROFILE = f"""# /etc/profile: login shells of this machine
PATH={PATH}
export PATH
if [ -n "$BASH_VERSION" ]; then
  PS1='\\u@\\h:\\w\\$ '
  [ -r /etc/bash.bashrc ] && . /etc/bash.bashrc
fi
for script in /etc/profile.d/*.sh; do
  [ -r "$script" ] && . "$script"
done
unset script
"""

_BASHRC = """# ~/.bashrc: interactive shells of this machine
[ -z "$PS1" ] && return
PS1='\\u@\\h:\\w\\$ '
alias ls='ls --color=auto'
alias ll='ls -l'
"""


def hosts(machine: spec.Machine, cluster: spec.Cluster) -> str:
    """/etc/hosts: every machine knows every other by name."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    if len(cluster.control_planes) > 1:
        lines.append(f"{spec.LOAD_BALANCER_ADDRESS} loadbalancer")
    lines += [f"{other.address} {other.name}" for other in cluster.machines]
    return "\n".join(lines) + "\n"


def files(machine: spec.Machine, cluster: spec.Cluster, machine_id: str) -> dict[str, tuple[str, int]]:
    """Path (relative to the machine's root) to text and mode."""
    own = machine.role == "etcd"
    accounts = (*_ACCOUNTS, *([("etcd", ETCD_ID, "/var/lib/etcd-data", "/usr/sbin/nologin")] if own else []))
    groups = (*_GROUPS, *_MORE_GROUPS, *([("etcd", ETCD_ID)] if own else []))
    passwd = "".join(f"{name}:x:{uid}:{uid if uid != 100 else 101}:{name}:{home}:{shell}\n" for name, uid, home, shell in accounts)
    shadow = "".join(f"{name}:*:19000:0:99999:7:::\n" for name, *_ in accounts)  # "*": nobody logs in by password
    group = "".join(f"{name}:x:{gid}:\n" for name, gid in groups)
    return {
        "etc/passwd": (passwd, 0o644),
        "etc/shadow": (shadow, 0o640),
        "etc/group": (group, 0o644),
        "etc/hostname": (machine.name + "\n", 0o644),
        "etc/hosts": (hosts(machine, cluster), 0o644),
        # The switch answers nothing on port 53, and says so at once: names outside the cluster fail fast.
        "etc/resolv.conf": (f"nameserver {spec.SWITCH_ADDRESS}\noptions timeout:1 attempts:1\n", 0o644),
        "etc/nsswitch.conf": (
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n",
            0o644,
        ),
        "etc/machine-id": (machine_id + "\n", 0o444),
        "etc/fstab": ("# the machine's file systems are made by kubette at each boot\n", 0o644),
        "etc/environment": (f"PATH={PATH}\n", 0o644),
        "etc/profile": (_PROFILE, 0o644),
        "etc/shells": ("/bin/sh\n/bin/bash\n", 0o644),
        "etc/securetty": ("", 0o600),
        "root/.bashrc": (_BASHRC, 0o644),
        "root/.profile": ('[ -n "$BASH_VERSION" ] && . ~/.bashrc\nmesg n 2>/dev/null || true\n', 0o644),
    }


def environment(text: str) -> dict[str, str]:
    """/etc/environment as pam_env reads it: NAME=value lines."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
