"""What exists once in the cluster and is handed out: Service addresses and node ports."""
