"""What workers do: drain lanes, send messages, deliver webhooks, and run the periodic tasks behind them."""
