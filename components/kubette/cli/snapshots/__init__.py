"""What `kubette backup` and `kubette restore` share: etcd's members as their machines describe them, the scripts typed there, and what they answer.

`member`, `plan` and `loss` decide and are pure; `shell` types on machines.
"""
