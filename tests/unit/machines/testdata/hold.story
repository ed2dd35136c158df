# Held packages change only when one insists, and are not on hold afterwards.
$ apt-mark hold kubelet kubeadm
kubelet set on hold.
kubeadm set on hold.
$ apt-mark hold kubelet
kubelet was already set on hold.
$ apt-mark showhold
kubeadm
kubelet
$ apt-get install -y kubeadm=1.30.6-1.1
Reading package lists...
Building dependency tree...
Reading state information...
The following held packages will be changed:
  kubeadm
The following packages will be upgraded:
  kubeadm
1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.
E: Held packages were changed and -y was used without --allow-change-held-packages.
[exit status 100]
$ apt-get install kubeadm=1.30.6-1.1 <<< n
Reading package lists...
Building dependency tree...
Reading state information...
The following held packages will be changed:
  kubeadm
The following packages will be upgraded:
  kubeadm
1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.
After this operation, 0 B of additional disk space will be used.
Do you want to continue? [Y/n] Abort.
[exit status 1]
$ apt-get install kubeadm=1.30.6-1.1
Reading package lists...
Building dependency tree...
Reading state information...
The following held packages will be changed:
  kubeadm
The following packages will be upgraded:
  kubeadm
1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.
After this operation, 0 B of additional disk space will be used.
Do you want to continue? [Y/n] Abort.
[exit status 1]
$ apt-get upgrade
Reading package lists...
Building dependency tree...
Reading state information...
Calculating upgrade...
The following packages have been kept back:
  kubeadm kubelet
The following packages will be upgraded:
  kubectl
1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.
After this operation, 0 B of additional disk space will be used.
Do you want to continue? [Y/n] Abort.
[exit status 1]
$ apt-get install -y --allow-change-held-packages kubeadm=1.30.6-1.1
Reading package lists...
Building dependency tree...
Reading state information...
The following held packages will be changed:
  kubeadm
The following packages will be upgraded:
  kubeadm
1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.
After this operation, 0 B of additional disk space will be used.
(Reading database ... 7 files and directories currently installed.)
Preparing to unpack .../kubeadm_1.30.6-1.1_amd64.deb ...
Unpacking kubeadm (1.30.6-1.1) over (1.30.0-1.1) ...
Setting up kubeadm (1.30.6-1.1) ...
$ apt-mark showhold
kubelet
$ apt-get install kubelet=1.30.6-1.1 <<< y
Reading package lists...
Building dependency tree...
Reading state information...
The following held packages will be changed:
  kubelet
The following packages will be upgraded:
  kubelet
1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.
After this operation, 0 B of additional disk space will be used.
Do you want to continue? [Y/n] (Reading database ... 7 files and directories currently installed.)
Preparing to unpack .../kubelet_1.30.6-1.1_amd64.deb ...
Unpacking kubelet (1.30.6-1.1) over (1.30.0-1.1) ...
Setting up kubelet (1.30.6-1.1) ...
$ apt-mark unhold kubelet
kubelet was already not on hold.
$ apt-mark hold
E: No packages found
[exit status 100]
$ apt-mark hold vim
E: Unable to locate package vim
E: No packages found
[exit status 100]
