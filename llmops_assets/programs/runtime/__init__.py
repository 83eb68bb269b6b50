"""What every program shares: its entry point, its spec and result, its errors."""
