"""Pure: Raft consensus as a library, in the manner of etcd's: a deterministic core without input or output.

A driver feeds it (`tick`, `step`, `propose`, `read_index`) and carries out what `ready` returns, in this order: send
`messages`; persist `hard_state`, `entries` and `snapshot`; fsync; send `messages_after_persist`; apply `committed_entries`;
call `advance`. A SNAP message may (and for a newcomer must) be sent with a newer snapshot than the core put into it: the state
machine as it is now; how its transfer ended is reported by `report_snapshot`. Same inputs, same outputs, byte for byte. It does not know what the entries mean.
"""
