"""What happens to every request before and after its verb: limits, deadlines, negotiation, answers."""
