"""What activities talk to: mail, object storage, outside HTTP."""
