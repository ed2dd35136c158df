"""etcdctl with `ETCDCTL_API=2`: the client of the v2 API (`/v2/keys`, `/v2/members`, `/v2/auth`), over plain HTTP, as the releases up to 3.5 had it.

Its command line is another library's than the v3 client's (`command_line`). Compared with the real one command by command in
`tests/component/test_etcdctl_v2_every_subcommand.py`.
"""
