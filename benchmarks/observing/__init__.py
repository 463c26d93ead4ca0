"""What it costs to observe: metrics, logs, traces and metering."""
