# What goes wrong, in apt's words, and the reason why.
$ apt-get install -y curl apt-transport-https kubelet=9 kubeadm/stable
Reading package lists...
Building dependency tree...
Reading state information...
Package kubeadm is not available, but is referred to by another package.
This may mean that the package is missing, has been obsoleted, or
is only available from another source

Package kubelet is not available, but is referred to by another package.
This may mean that the package is missing, has been obsoleted, or
is only available from another source

E: Unable to locate package curl
E: Unable to locate package apt-transport-https
E: Version '9' for 'kubelet' was not found
E: Release 'stable' for 'kubeadm' was not found
N: curl is here already: /usr/bin/curl, the host's.
N: This machine's /usr is the host's, read-only. Its packages are cri-tools, kubeadm, kubectl, kubelet, kubernetes-cni; install others on the host.
[exit status 100]
$ apt-get remove kubelet
E: Invalid operation remove
N: Here apt-get knows: update, install, upgrade, autoremove, dist-upgrade.
[exit status 100]
$ apt-get install --frob kubelet
E: Command line option --frob is not understood in combination with the other options
[exit status 100]
$ apt-get -yZ install kubelet
E: Command line option 'Z' [from -yZ] is not understood in combination with the other options.
[exit status 100]
$ apt show vim

WARNING: apt does not have a stable CLI interface. Use with caution in scripts.

E: No packages found
[exit status 100]
$ apt-cache madison vim
$ rm /etc/apt/keyrings/kubernetes-apt-keyring.gpg
$ apt-get update
Err:1 https://pkgs.k8s.io/core:/stable:/v1.30/deb  InRelease
  The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 234654DA9A296436
Reading package lists...
W: GPG error: https://pkgs.k8s.io/core:/stable:/v1.30/deb  InRelease: The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 234654DA9A296436
E: The repository 'https://pkgs.k8s.io/core:/stable:/v1.30/deb  InRelease' is not signed.
N: Updating from such a repository can't be done securely, and is therefore disabled by default.
N: See apt-secure(8) manpage for repository creation and user configuration details.
[exit status 100]
$ echo 'deb [trusted=yes] https://pkgs.k8s.io/core:/stable:/v1.99/deb/ /' > /etc/apt/sources.list.d/kubernetes.list
$ apt-get update
Err:1 https://pkgs.k8s.io/core:/stable:/v1.99/deb  InRelease
  403  Forbidden
Reading package lists...
E: Failed to fetch https://pkgs.k8s.io/core:/stable:/v1.99/deb/InRelease  403  Forbidden
E: The repository 'https://pkgs.k8s.io/core:/stable:/v1.99/deb  InRelease' is not signed.
N: Updating from such a repository can't be done securely, and is therefore disabled by default.
N: See apt-secure(8) manpage for repository creation and user configuration details.
N: The lines there are: v1.30 to v1.37 of core:/stable: and of core:/prerelease:.
[exit status 100]
$ echo 'deb https://apt.kubernetes.io/ kubernetes-xenial main' > /etc/apt/sources.list.d/kubernetes.list
$ apt-get update
Err:1 https://apt.kubernetes.io kubernetes-xenial InRelease
  Temporary failure resolving 'apt.kubernetes.io'
Reading package lists...
W: Failed to fetch https://apt.kubernetes.io/dists/kubernetes-xenial/InRelease  Temporary failure resolving 'apt.kubernetes.io'
W: Some index files failed to download. They have been ignored, or old ones used instead.
$ echo 'deb https://pkgs.k8s.io/core:/stable:/v1.31/deb/' > /etc/apt/sources.list.d/kubernetes.list
$ apt-get update
E: Malformed entry 1 in list file /etc/apt/sources.list.d/kubernetes.list (Suite)
E: The list of sources could not be read.
[exit status 100]
$ echo 'deb https://pkgs.k8s.io/core:/stable:/v1.31/deb/ stable' > /etc/apt/sources.list.d/kubernetes.list
$ apt-get install kubelet
E: Malformed entry 1 in list file /etc/apt/sources.list.d/kubernetes.list (Component)
E: The list of sources could not be read.
[exit status 100]
$ echo 'deb https://pkgs.k8s.io/core:/stable:/v1.31/deb/ / main' > /etc/apt/sources.list.d/kubernetes.list
$ apt list

WARNING: apt does not have a stable CLI interface. Use with caution in scripts.

E: Malformed entry 1 in list file /etc/apt/sources.list.d/kubernetes.list (absolute Suite Component)
E: The list of sources could not be read.
[exit status 100]
$ echo 'debb https://pkgs.k8s.io/core:/stable:/v1.31/deb/ /' > /etc/apt/sources.list.d/kubernetes.list
$ apt-cache policy
E: Type 'debb' is not known on line 1 in source list /etc/apt/sources.list.d/kubernetes.list
E: The list of sources could not be read.
[exit status 100]
$ echo 'deb [signed-by https://pkgs.k8s.io/core:/stable:/v1.31/deb/ /' > /etc/apt/sources.list.d/kubernetes.list
$ apt-mark hold kubelet
E: Malformed entry 1 in list file /etc/apt/sources.list.d/kubernetes.list ([option] not assignment)
E: The list of sources could not be read.
[exit status 100]
$ rm /var/lib/kubette/releases/default
$ apt-get update
E: This is not a machine of a cluster: use the system's own apt.
[exit status 100]
