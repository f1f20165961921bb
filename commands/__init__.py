"""What the commands of cli.py do, one file each. With cli.py they are the second composition root."""
