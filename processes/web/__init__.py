"""The HTTP door: uploads, progress, webhooks and jobs, each for the calling tenant."""
