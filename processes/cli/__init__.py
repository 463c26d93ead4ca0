"""The commands of starter.py: `app` declares all of them, each other module does one group's."""
