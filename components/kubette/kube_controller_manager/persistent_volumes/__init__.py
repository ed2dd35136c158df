"""Claims find their volumes; volumes whose claim is gone are released and reclaimed; neither goes while it is used."""
