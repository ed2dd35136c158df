"""Pure: the container runtime interface, runtime.v1: the messages a kubelet and a container runtime share.

`api.proto` is the contract, `api_pb2` its generated messages (scripts/protos), `services` the two services as tables for any
gRPC library. The socket is `services.SOCKET`, as on a kubeadm node with containerd.
"""
