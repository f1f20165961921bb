"""What workers do: the lanes, sending, delivering, and the duties that keep them going."""
