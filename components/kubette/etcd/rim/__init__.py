"""The client port: one listener that answers gRPC (HTTP/2) and HTTP/1.1, plain or TLS, told apart by the first bytes.

Own, because it is the hot path of the whole cluster: it starts without importing grpc (0.2 s, 30 MB), a call costs no task unless it
waits, and one port serves both protocols. What requests mean is in `services/`; this knows only bytes.
"""
