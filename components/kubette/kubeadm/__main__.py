"""Entry point of kubeadm."""

import sys

from kubette.kubeadm.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
