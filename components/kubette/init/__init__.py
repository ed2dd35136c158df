"""PID 1 of a machine: systemd's place. It reads unit files, runs services, holds their output, and serves `systemctl` and `journalctl`."""
