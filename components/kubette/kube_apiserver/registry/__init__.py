"""What each resource adds to the common write path: defaults, preparation, validation, warnings, printer columns."""
