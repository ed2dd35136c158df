"""ResourceQuotas: what a namespace uses."""
