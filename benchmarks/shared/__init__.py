"""Code that the questions share: measurement, servers and jobs."""
