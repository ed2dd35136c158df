"""What `kubette backup` and `kubette restore` share: etcd's members as their machines describe them, the scripts typed there, and what they answer.

`plan` and `loss` decide and are pure; `reading` knows the members by their machines' files, `shell` types on machines.
"""
