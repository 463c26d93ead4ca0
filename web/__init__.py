"""The HTTP door: uploads, progress, webhooks, and job submission."""
