"""Jobs: pods until enough of them succeeded; and the end of finished jobs."""
