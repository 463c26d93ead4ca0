"""What the questions have in common: how they are measured, and on which servers and jobs."""
