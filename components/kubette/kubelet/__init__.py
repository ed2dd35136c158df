"""The node's agent: makes the machine's containers match the pods bound to it, and tells the API server how they are.

Decisions are in pure modules (`pod_actions`, `pod_status`, `probe_state`, `admission`, `eviction`, `environment`, `*_config`); the rim
speaks CRI to the runtime and HTTP to the API server, and to nothing else. It works with the API server away: the API server is one of its pods.
"""
